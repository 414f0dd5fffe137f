/* SPDX-License-Identifier: Apache-2.0 */
/* PS256: signatures that the openssl program accepts, and PEM files that are refused. */
#include "tests/unit/testlib.h"

#include "crypto/sign.h"
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fips *fips;
static char dir[] = "/tmp/bcfs-sign.XXXXXX";

/* Runs a shell command in the test's directory; its exit code. */
static int sh(const char *command)
{
	char text[8192];
	int status;

	assert_true(snprintf(text, sizeof(text), "cd %s && { %s; }", dir, command) < (int)sizeof(text));
	status = system(text);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void path_of(const char *name, char out[static 128])
{
	snprintf(out, 128, "%s/%s", dir, name);
}

static struct secret *slurp(const char *name)
{
	struct secret *s = NULL;
	struct stat st;
	char path[128];
	int fd;

	path_of(name, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_ok(secret_new((size_t)st.st_size, &s));
	assert_int_equal(read(fd, secret_bytes(s), secret_len(s)), st.st_size);
	close(fd);
	return s;
}

static void put(const char *name, const void *p, size_t len)
{
	char path[128];
	int fd;

	path_of(name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, len), (ssize_t)len);
	close(fd);
}

static enum err load(const char *name, struct sign_key **k, struct err_why *why)
{
	struct secret *pem = slurp(name);
	enum err e = sign_key_new(fips, pem, name, k, why);

	secret_free(pem);
	return e;
}

static int make_files(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	return sh("exec >/dev/null 2>&1 &&"
		  "for b in 2048 3072 4096 1024; do"
		  "  openssl req -x509 -newkey rsa:$b -nodes -subj /CN=t$b -keyout $b.key -out $b.crt -days 2;"
		  "  cat $b.key $b.crt >$b.pem;"
		  "done;"
		  "openssl x509 -in 2048.crt -outform DER -out 2048.der;"
		  "openssl x509 -in 2048.crt -pubkey -noout -out 2048.pub;"
		  "openssl x509 -in 4096.crt -pubkey -noout -out 4096.pub;"
		  "openssl rsa -in 2048.key -traditional -out old.key && cat 2048.crt old.key >old.pem;"
		  "openssl rsa -in 2048.key -aes256 -passout pass:x -traditional -out e.key &&"
		  "  cat e.key 2048.crt >oldcrypt.pem;"
		  "openssl pkcs8 -topk8 -in 2048.key -passout pass:x -out e8.key && cat e8.key 2048.crt >crypt.pem;"
		  "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=e -keyout ec.key"
		  "  -out ec.crt && cat ec.key ec.crt >ec.pem;"
		  "cat 3072.crt 4096.crt 2048.crt 2048.key >chain.pem;"
		  "cat 2048.key 3072.crt >foreign.pem;"
		  "cat 2048.key 3072.key 2048.crt >two.pem;"
		  "cat 2048.key 2048.crt 2048.pub >pub.pem;"
		  "cat 2048.key >nocert.pem; cat 2048.crt >nokey.pem; : >empty.pem;"
		  "(cat 2048.key; for i in 1 2 3 4 5 6 7 8 9; do cat 2048.crt; done) >many.pem;"
		  "head -c 900 2048.key >cut.pem;"
		  "(echo '-----BEGIN PRIVATE KEY-----'; head -c 900 /dev/urandom | base64;"
		  "  echo '-----END PRIVATE KEY-----'; cat 2048.crt) >junk.pem;"
		  "(cat 2048.key; echo '-----BEGIN CERTIFICATE-----'; head -c 900 /dev/urandom | base64;"
		  "  echo '-----END CERTIFICATE-----') >junkcert.pem;"
		  "test -s many.pem && test -s ec.pem && test -s crypt.pem && test -s oldcrypt.pem");
}

static int remove_files(void **state)
{
	(void)state;
	return sh("rm -rf \"$PWD\"");
}

/* The openssl program checks our signature, with the parameters that RFC 7518 fixes. */
static void signs(void **state)
{
	static const char *const sizes[] = {"2048", "4096"};
	const char text[] = "eyJhbGciOiJQUzI1NiJ9.eyJhdWQiOiJ4In0";

	(void)state;
	put("text", text, sizeof(text) - 1);
	put("other", text, sizeof(text) - 2);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct sign_key *k = NULL;
		struct err_why why = {0};
		uint8_t sig[SIGN_MAX];
		char name[32], command[256];
		size_t len = 0;

		snprintf(name, sizeof(name), "%s.pem", sizes[i]);
		assert_ok(load(name, &k, &why));
		assert_ok(sign_ps256(k, text, sizeof(text) - 1, sig, &len));
		assert_int_equal(len * 8, atoi(sizes[i]));
		put("sig", sig, len);
		snprintf(command, sizeof(command),
			"openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32"
			" -sigopt rsa_mgf1_md:sha256 -verify %s.pub -signature sig text >/dev/null",
			sizes[i]);
		assert_int_equal(sh(command), 0);
		snprintf(command, sizeof(command),
			"openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32"
			" -verify %s.pub -signature sig other >/dev/null 2>&1",
			sizes[i]);
		assert_int_not_equal(sh(command), 0);
		sign_key_free(k);
	}
}

static void thumbprint(void **state)
{
	struct secret *der = slurp("2048.der");
	struct sign_key *k = NULL;
	struct err_why why = {0};
	const uint8_t *cert;
	uint8_t want[32];
	size_t len = 0;

	(void)state;
	assert_ok(load("2048.pem", &k, &why));
	crypto_hash_sha256(want, secret_view(der), secret_len(der));
	assert_memory_equal(sign_key_thumbprint(k), want, 32);
	cert = sign_key_cert(k, 0, &len);
	assert_int_equal(len, secret_len(der));
	assert_memory_equal(cert, secret_view(der), len);
	assert_null(sign_key_cert(k, 1, &len));
	sign_key_free(k);

	/* Its own certificate comes first, wherever it is in the file. */
	assert_ok(load("chain.pem", &k, &why));
	assert_memory_equal(sign_key_thumbprint(k), want, 32);
	cert = sign_key_cert(k, 0, &len);
	assert_int_equal(len, secret_len(der));
	assert_memory_equal(cert, secret_view(der), len);
	assert_non_null(sign_key_cert(k, 1, &len));
	assert_non_null(sign_key_cert(k, 2, &len));
	assert_null(sign_key_cert(k, 3, &len));
	sign_key_free(k);

	assert_ok(load("old.pem", &k, &why));
	assert_memory_equal(sign_key_thumbprint(k), want, 32);
	sign_key_free(k);
	secret_free(der);
}

static void refused(void **state)
{
	static const char *const bad[][2] = {
		{"1024.pem", "1024 bits"},
		{"crypt.pem", "is encrypted"},
		{"oldcrypt.pem", "is encrypted"},
		{"ec.pem", "not of kind RSA"},
		{"foreign.pem", "no certificate in foreign.pem belongs"},
		{"two.pem", "more than one private key"},
		{"pub.pem", "has a block \"PUBLIC KEY\""},
		{"nocert.pem", "no certificate in PEM form"},
		{"nokey.pem", "no private key in PEM form"},
		{"empty.pem", "no private key in PEM form"},
		{"many.pem", "more than 8 certificates"},
		{"cut.pem", "no private key in PEM form"},
		{"junk.pem", "is damaged"},
		{"junkcert.pem", "no certificate in junkcert.pem belongs"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct sign_key *k = (struct sign_key *)&fips;
		struct err_why why = {0};
		enum err e = load(bad[i][0], &k, &why);

		if (e != ERR_CONFIG || !strstr(why.text, bad[i][1]) || k)
			fail_msg("%s: %d %s", bad[i][0], e, why.text);
	}
}

/* Nothing of the private key outlives sign_key_free, not even the PEM text's copies. */
static void wiped(void **state)
{
	struct secret *pem = slurp("2048.pem");
	struct sign_key *k = NULL;
	struct err_why why = {0};
	uint8_t needle[32], mask = 0x5a, sig[SIGN_MAX];
	size_t len;

	(void)state;
	/* the base64 text behind the first lines, which other keys might share */
	for (size_t i = 0; i < sizeof(needle); i++)
		needle[i] = secret_view(pem)[400 + i] ^ mask;
	assert_int_not_equal(test_scan(needle, mask, sizeof(needle)), 0);
	assert_ok(sign_key_new(fips, pem, "2048.pem", &k, &why));
	assert_ok(sign_ps256(k, "x", 1, sig, &len));
	secret_free(pem);
	assert_int_equal(test_scan(needle, mask, sizeof(needle)), 0);
	sign_key_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signs),
		cmocka_unit_test(thumbprint),
		cmocka_unit_test(refused),
		cmocka_unit_test(wiped),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, make_files, remove_files));
}
