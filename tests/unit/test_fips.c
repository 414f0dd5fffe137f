/* SPDX-License-Identifier: Apache-2.0 */
/* fips: the provider, and known answers for every primitive we take from it. */
#include "tests/unit/testlib.h"

#include <openssl/provider.h>
#include <pthread.h>

static struct fips *fips;

/* Runs a cipher over hex; returns the length written. */
static size_t run(const EVP_CIPHER *c, bool enc, const char *key, const char *iv, const char *in, uint8_t *out)
{
	uint8_t k[64], v[16], p[1024];
	size_t len = unhex(in, p);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0;

	assert_non_null(ctx);
	unhex(key, k);
	if (iv)
		unhex(iv, v);
	assert_int_equal(EVP_CipherInit_ex2(ctx, c, k, iv ? v : NULL, enc, NULL), 1);
	assert_int_equal(EVP_CipherUpdate(ctx, out, &n, p, (int)len), 1);
	EVP_CIPHER_CTX_free(ctx);
	return (size_t)n;
}

/* "The Galois/Counter Mode of Operation" (McGrew, Viega), appendix B, test cases 13 to 16. */
static const struct {
	const char *key, *iv, *plain, *aad, *cipher, *tag;
} gcm_cases[] = {
	{"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "", "", "",
		"530f8afbc74536b9a963b4f1c4cb738b"},
	{"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
		"00000000000000000000000000000000", "", "cea7403d4d606b6e074ec5d3baf39d18",
		"d0d1c8a799996bf0265b98b5d48ab919"},
	{"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		"",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
		"b094dac5d93471bdec1a502270e3cc6c"},
	{"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		"feedfacedeadbeeffeedfacedeadbeefabaddad2",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
		"76fc6ece0f4e1768cddf8853bb2d551b"},
};

static void gcm(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(gcm_cases); i++) {
		uint8_t key[32], iv[12], in[64], aad[32], out[64], tag[16];
		size_t len = unhex(gcm_cases[i].plain, in), aad_len = unhex(gcm_cases[i].aad, aad);
		EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
		int n = 0;

		unhex(gcm_cases[i].key, key);
		unhex(gcm_cases[i].iv, iv);
		assert_int_equal(EVP_EncryptInit_ex2(c, fips->gcm, key, iv, NULL), 1);
		if (aad_len > 0)
			assert_int_equal(EVP_EncryptUpdate(c, NULL, &n, aad, (int)aad_len), 1);
		if (len > 0)
			assert_int_equal(EVP_EncryptUpdate(c, out, &n, in, (int)len), 1);
		assert_int_equal(EVP_EncryptFinal_ex(c, out + len, &n), 1);
		assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
		EVP_CIPHER_CTX_free(c);
		assert_hex(out, gcm_cases[i].cipher);
		assert_hex(tag, gcm_cases[i].tag);
	}
}

/* The one-shot form opens the known answers, and what it seals; every bit counts. */
static void gcm_once(void **state)
{
	uint8_t aad[64], in[128], sealed[128 + GCM_OVERHEAD], out[128], iv[GCM_IV_BYTES];
	struct secret *key, *small = test_secret(1, 16);

	(void)state;
	for (size_t i = 0; i < COUNT(gcm_cases); i++) {
		size_t aad_len = unhex(gcm_cases[i].aad, aad), len = unhex(gcm_cases[i].plain, in);

		assert_ok(secret_new(32, &key));
		unhex(gcm_cases[i].key, secret_bytes(key));
		unhex(gcm_cases[i].iv, sealed);
		unhex(gcm_cases[i].tag, sealed + GCM_IV_BYTES);
		unhex(gcm_cases[i].cipher, sealed + GCM_OVERHEAD);
		assert_ok(fips_gcm_open(fips, key, aad, aad_len, sealed, len + GCM_OVERHEAD, out));
		assert_memory_equal(out, in, len);
		memset(iv, 0, sizeof(iv));
		for (int again = 0; again < 2; again++) {
			assert_ok(fips_gcm_seal(fips, key, aad, aad_len, in, len, sealed));
			assert_memory_not_equal(sealed, iv, sizeof(iv)); /* a new one each time */
			memcpy(iv, sealed, sizeof(iv));
			assert_ok(fips_gcm_open(fips, key, aad, aad_len, sealed, len + GCM_OVERHEAD, out));
			assert_memory_equal(out, in, len);
		}
		for (size_t bit = 0; bit < 8 * (len + GCM_OVERHEAD); bit++) {
			sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
			memset(out, 0xee, sizeof(out));
			assert_int_equal(
				fips_gcm_open(fips, key, aad, aad_len, sealed, len + GCM_OVERHEAD, out), ERR_CORRUPT);
			for (size_t k = 0; k < len; k++)
				assert_int_equal(out[k], 0);
			sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		if (aad_len > 0)
			assert_int_equal(fips_gcm_open(fips, key, aad, aad_len - 1, sealed, len + GCM_OVERHEAD, out),
				ERR_CORRUPT);
		if (len > 0)
			assert_int_equal(fips_gcm_open(fips, key, aad, aad_len, sealed, len + GCM_OVERHEAD - 1, out),
				ERR_CORRUPT);
		assert_int_equal(fips_gcm_open(fips, key, aad, aad_len, sealed, GCM_OVERHEAD - 1, out), ERR_CORRUPT);
		assert_int_equal(fips_gcm_open(fips, small, aad, aad_len, sealed, len + GCM_OVERHEAD, out), ERR_RANGE);
		assert_int_equal(fips_gcm_seal(fips, small, aad, aad_len, in, len, sealed), ERR_RANGE);
		secret_free(key);
	}
	secret_free(small);
}

/* IEEE 1619-2007 annex B, vector 10 (XTS-AES-256), its first 64 bytes. */
static void xts(void **state)
{
	static const char key[] = "2718281828459045235360287471352662497757247093699959574966967627"
				  "3141592653589793238462643383279502884197169399375105820974944592";
	static const char plain[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
				    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
	static const char cipher[] = "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
				     "5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd";
	uint8_t out[128];

	(void)state;
	assert_int_equal(run(fips->xts, true, key, "ff000000000000000000000000000000", plain, out), 64);
	assert_hex(out, cipher);
	assert_int_equal(run(fips->xts, false, key, "ff000000000000000000000000000000", cipher, out), 64);
	assert_hex(out, plain);
}

/* SP 800-38A F.5.5 and F.5.6, CTR-AES256. */
static void ctr(void **state)
{
	static const char key[] = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
	static const char iv[] = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
	static const char plain[] = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
				    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
	static const char cipher[] = "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
				     "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6";
	uint8_t out[128];

	(void)state;
	assert_int_equal(run(fips->ctr, true, key, iv, plain, out), 64);
	assert_hex(out, cipher);
	assert_int_equal(run(fips->ctr, true, key, iv, cipher, out), 64);
	assert_hex(out, plain);
}

/* RFC 3394 section 4.6: KW with a 256-bit KEK. */
static void kw(void **state)
{
	static const char kek[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
	static const char plain[] = "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f";
	static const char wrapped[] = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43b"
				      "fb988b9b7a02dd21";
	uint8_t out[128];

	(void)state;
	assert_int_equal(run(fips->kw, true, kek, NULL, plain, out), 40);
	assert_hex(out, wrapped);
	assert_int_equal(run(fips->kw, false, kek, NULL, wrapped, out), 32);
	assert_hex(out, plain);
}

/* RFC 5649 section 6: KWP with a 192-bit KEK, the only published size; same code, other key length. */
static void kwp_rfc_5649(void **state)
{
	static const char kek[] = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8";
	EVP_CIPHER *c = EVP_CIPHER_fetch(fips->libctx, "AES-192-WRAP-PAD", NULL);
	uint8_t out[128];

	(void)state;
	assert_non_null(c);
	assert_int_equal(run(c, true, kek, NULL, "c37b7e6492584340bed12207808941155068f738", out), 32);
	assert_hex(out, "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a");
	assert_int_equal(run(c, true, kek, NULL, "466f7250617369", out), 16);
	assert_hex(out, "afbeb0f07dfbf5419200f2ccb50bb24f");
	EVP_CIPHER_free(c);
}

/* KWP of whole 8-byte groups is KW with the alternative initial value A65959A6 | length (RFC 5649 section 3). */
static void kwp_is_kw(void **state)
{
	struct secret *kek = test_secret(0, 32), *in = test_secret(77, 32), *back = NULL;
	const uint8_t aiv[8] = {0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 32};
	uint8_t got[40], want[48];
	size_t got_len = 0;
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;

	(void)state;
	assert_ok(fips_wrap(fips, kek, in, got, sizeof(got), &got_len));
	assert_int_equal(got_len, 40);
	assert_int_equal(EVP_EncryptInit_ex2(c, fips->kw, secret_view(kek), aiv, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(c, want, &n, secret_view(in), 32), 1);
	assert_int_equal(n, 40);
	assert_memory_equal(got, want, 40);
	EVP_CIPHER_CTX_free(c);
	assert_ok(fips_unwrap(fips, kek, got, got_len, &back));
	assert_int_equal(secret_len(back), 32);
	assert_memory_equal(secret_view(back), secret_view(in), 32);
	secret_free(kek);
	secret_free(in);
	secret_free(back);
}

static void wrap_all_lengths(void **state)
{
	struct secret *kek = test_secret(9, 32), *other = test_secret(10, 32), *back = NULL;

	(void)state;
	for (size_t len = 1; len <= 80; len++) {
		struct secret *in = test_secret((uint8_t)len, len);
		uint8_t out[96];
		size_t n = 0;

		assert_int_equal(fips_wrap(fips, kek, in, out, (len + 7) / 8 * 8 + 7, &n), ERR_RANGE);
		assert_ok(fips_wrap(fips, kek, in, out, sizeof(out), &n));
		assert_int_equal(n, (len + 7) / 8 * 8 + 8);
		assert_ok(fips_unwrap(fips, kek, out, n, &back));
		assert_int_equal(secret_len(back), len);
		assert_memory_equal(secret_view(back), secret_view(in), len);
		secret_free(back);
		back = NULL;
		assert_int_equal(fips_unwrap(fips, other, out, n, &back), ERR_CORRUPT);
		for (size_t i = 0; i < n; i++) {
			out[i] ^= 0x10;
			assert_int_equal(fips_unwrap(fips, kek, out, n, &back), ERR_CORRUPT);
			out[i] ^= 0x10;
		}
		assert_int_equal(fips_unwrap(fips, kek, out, n - 1, &back), ERR_CORRUPT);
		assert_int_equal(fips_unwrap(fips, kek, out, 0, &back), ERR_CORRUPT);
		assert_int_equal(fips_unwrap(fips, kek, out, 8, &back), ERR_CORRUPT);
		assert_null(back);
		secret_free(in);
	}
	secret_free(kek);
	secret_free(other);
}

static void wrap_ranges(void **state)
{
	struct secret *kek = test_secret(9, 32), *small = test_secret(10, 16), *empty = NULL, *back = NULL;
	uint8_t out[64] = {0};
	size_t n = 0;

	(void)state;
	assert_ok(secret_new(0, &empty));
	assert_int_equal(fips_wrap(fips, kek, empty, out, sizeof(out), &n), ERR_RANGE);
	assert_int_equal(fips_wrap(fips, small, kek, out, sizeof(out), &n), ERR_RANGE);
	assert_int_equal(fips_unwrap(fips, small, out, 40, &back), ERR_RANGE);
	secret_free(kek);
	secret_free(small);
	secret_free(empty);
}

/* FIPS 180-4, the examples "abc" and the one of two blocks; the empty text. */
static void sha256(void **state)
{
	static const char *const v[][2] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(v); i++) {
		uint8_t out[32];

		assert_ok(fips_sha256(fips, v[i][0], strlen(v[i][0]), out));
		assert_hex(out, v[i][1]);
	}
}

/* RFC 4231, test cases 1, 4 and 6; 6 in pieces. */
static void hmac(void **state)
{
	uint8_t key[131], data[50], out[32];
	const struct piece whole = {data, sizeof(data)};
	const struct piece hi = {"Hi There", 8};
	const struct piece parts[] = {
		{"Test Using Larger", 17}, {NULL, 0}, {" Than Block-Size Key", 20}, {" - Hash Key First", 17}};

	(void)state;
	memset(key, 0x0b, 20);
	assert_ok(fips_hmac(fips, key, 20, &hi, 1, out));
	assert_hex(out, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	for (size_t i = 0; i < 25; i++)
		key[i] = (uint8_t)(i + 1);
	memset(data, 0xcd, sizeof(data));
	assert_ok(fips_hmac(fips, key, 25, &whole, 1, out));
	assert_hex(out, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
	memset(key, 0xaa, sizeof(key));
	assert_ok(fips_hmac(fips, key, sizeof(key), parts, COUNT(parts), out));
	assert_hex(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void provider(void **state)
{
	(void)state;
	assert_true(fips->is_fips);
	assert_true(fips->version[0] >= '3');
	assert_non_null(strstr(fips->name, "FIPS"));
	assert_non_null(strstr(fips->module, "fips.so"));
	assert_int_equal(EVP_default_properties_is_fips_enabled(fips->libctx), 1);
	/* What is not approved is not to be had, and the default context is as it was. */
	assert_null(EVP_CIPHER_fetch(fips->libctx, "ChaCha20-Poly1305", NULL));
	assert_int_equal(EVP_default_properties_is_fips_enabled(NULL), 0);
	assert_int_equal(OSSL_PROVIDER_available(NULL, "fips"), 0);
}

static void not_found(void **state)
{
	struct fips_config cfg = {.dir = "/nonexistent"};
	struct err_why why = {0};
	struct fips *f = NULL;

	(void)state;
	assert_int_equal(fips_open(&cfg, &f, &why), ERR_FIPS);
	assert_non_null(strstr(why.text, "make setup"));
	assert_non_null(strstr(why.text, "--fips-dir"));
	cfg.allow_non_fips = true; /* a directory that was asked for is not silently done without */
	assert_int_equal(fips_open(&cfg, &f, &why), ERR_FIPS);
	cfg.dir = "";
	assert_int_equal(fips_open(&cfg, &f, &why), ERR_FIPS);
	assert_int_equal(fips_open(&cfg, &f, NULL), ERR_FIPS);
	assert_null(f);
}

/*
 * Fills dir with a copy of the module and a fipsmodule.cnf of the given text.  A copy, not a link: a module that failed
 * its self-test stays in its error state for as long as it is loaded, and it is the one we go on with.
 */
static void broken_dir(const char *dir, const char *conf)
{
	char path[64], buf[65536];
	FILE *in = fopen(fips->module, "r"), *out;
	size_t n;

	snprintf(path, sizeof(path), "%s/fips.so", dir);
	(void)remove(path);
	out = fopen(path, "w");
	assert_true(in && out);
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		assert_int_equal(fwrite(buf, 1, n, out), n);
	fclose(in);
	assert_int_equal(fclose(out), 0);
	snprintf(path, sizeof(path), "%s/fipsmodule.cnf", dir);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_true(fputs(conf, out) >= 0);
	assert_int_equal(fclose(out), 0);
}

/* A module whose checksum is wrong or missing does not start. */
static void damaged(void **state)
{
	static const char *const confs[] = {
		"",
		"garbage",
		"[fips_sect]\nactivate = 1\n",
		"[fips_sect]\nactivate = 1\nmodule-mac = 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:"
		"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\n",
	};
	char dir[] = "/tmp/bcfs-test-XXXXXX", path[64];
	struct fips_config cfg = {.dir = dir};

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < COUNT(confs); i++) {
		struct err_why why = {0};
		struct fips *f = NULL;

		broken_dir(dir, confs[i]);
		assert_int_equal(fips_open(&cfg, &f, &why), ERR_FIPS);
		assert_null(f);
		assert_true(why.text[0] != '\0');
	}
	snprintf(path, sizeof(path), "%s/fips.so", dir);
	assert_int_equal(remove(path), 0);
	snprintf(path, sizeof(path), "%s/fipsmodule.cnf", dir);
	assert_int_equal(remove(path), 0);
	assert_int_equal(remove(dir), 0);
}

static void random_bytes(void **state)
{
	uint8_t a[64], b[64];

	(void)state;
	assert_ok(fips_random(fips, a, sizeof(a)));
	assert_ok(fips_random(fips, b, sizeof(b)));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_ok(fips_random(fips, a, 0));
}

static void *draw(void *arg)
{
	uint8_t out[32];

	for (int i = 0; i < 2000; i++) {
		if (fips_random(fips, out, sizeof(out)) != ERR_OK)
			return arg;
	}
	return NULL;
}

static void random_threads(void **state)
{
	pthread_t t[4];

	(void)state;
	for (size_t i = 0; i < COUNT(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, draw, fips), 0);
	for (size_t i = 0; i < COUNT(t); i++) {
		void *bad = NULL;

		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(provider),
		cmocka_unit_test(gcm),
		cmocka_unit_test(gcm_once),
		cmocka_unit_test(xts),
		cmocka_unit_test(ctr),
		cmocka_unit_test(kw),
		cmocka_unit_test(kwp_rfc_5649),
		cmocka_unit_test(kwp_is_kw),
		cmocka_unit_test(wrap_all_lengths),
		cmocka_unit_test(wrap_ranges),
		cmocka_unit_test(sha256),
		cmocka_unit_test(hmac),
		cmocka_unit_test(not_found),
		cmocka_unit_test(damaged),
		cmocka_unit_test(random_bytes),
		cmocka_unit_test(random_threads),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
