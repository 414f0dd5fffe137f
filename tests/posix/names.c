/* SPDX-License-Identifier: Apache-2.0 */
/* Any byte in a name, and any length of name and link target. */
#include "diff.h"

#include <dirent.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* 0 if the directory lists just this name. */
static long lists(const char *dir, const char *name)
{
	int found = 0, more = 0;
	DIR *d = opendir(dir);
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, name) == 0)
			found++;
		else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			more++;
	}
	closedir(d);
	return found == 1 && more == 0 ? 0 : 1 + found * 1000 + more;
}

static void byte_names(void)
{
	char name[300], in[310], sub[310];
	fresh("every byte in a name");
	R(mkdir("d", 0755));
	for (int b = 1; b < 256; b++) {
		if (b == '/')
			continue;
		for (int form = 0; form < 3; form++) {
			if (form == 0)
				snprintf(name, sizeof(name), "%c", b);
			else if (form == 1)
				snprintf(name, sizeof(name), "a%cz", b);
			else
				memset(name, b, 255), name[255] = 0;
			if (strcmp(name, ".") == 0)
				continue;
			ctx("byte %d, form %d", b, form);
			snprintf(in, sizeof(in), "d/%s", name);
			T(put(in, "text"));
			T(lists("d", name));
			S(in);
			T(unlink(in));
			if (form == 1) {
				snprintf(sub, sizeof(sub), "d/%s", name);
				T(symlink(name, in));
				T(unlink(in));
			}
		}
	}
	for (int b = 1; b < 256; b++) {
		if (b == '/' || b == '.')
			continue;
		snprintf(in, sizeof(in), "d/all%c", b);
		R(put(in, "x"));
	}
	TREE();
}

static void name_lengths(void)
{
	char name[300], other[300], file[600];
	fresh("names of every length");
	for (size_t len = 1; len <= 255; len++) {
		for (size_t i = 0; i < len; i++)
			name[i] = (char)('a' + i % 26);
		name[len] = 0;
		memcpy(other, name, len + 1);
		other[len - 1] = '!';
		snprintf(file, sizeof(file), "%s/%s", name, other);
		ctx("%zu bytes", len);
		T(mkdir(name, 0755));
		T(put(file, name));
		T(lists(name, other));
		T(content(file));
		T(rename(file, other));
		S(other);
		T(rename(name, file + len + 1)); /* a directory over a file */
		T(rmdir(name));
		T(symlink(name, name));
		T(link(other, "h"));
		T(unlink("h"));
		if (len % 5)
			T(unlink(other));
		T(len % 7 ? unlink(name) : 0);
	}
	TREE();
}

static void link_targets(void)
{
	static char target[5000], back[5000];
	fresh("targets of every length");
	for (size_t i = 0; i < sizeof(target); i++)
		target[i] = (char)(i % 255 + 1);
	for (size_t len = 0; len <= 4097; len += len < 40 || len > 2980 ? 1 : 13) {
		char keep = target[len];
		target[len] = 0;
		if (len > 3100 && len < 4085 && len % 9) {
			target[len] = keep;
			continue;
		}
		ctx("%zu bytes", len);
		T(symlink(target, "l"));
		T(readlink("l", back, sizeof(back)));
		T(strncmp(back, target, len) == 0);
		T(readlink("l", back, 10));
		S("l");
		if (len % 50 == 0) {
			T(rename("l", "m"));
			T(link("m", "l"));
			T(unlink("m"));
			T(readlink("l", back, sizeof(back)));
		}
		T(unlink("l"));
		target[len] = keep;
	}
	T(readlink("none", back, 0));
}

void test_names(void)
{
	static const char *const odd[] = {".x", "...", "..x", "-rf", "a b", "blobcryptfs.json",
		"blobcryptfs.state", "blobcryptfs.lock", "bcfs.id", "L.x", "N.x", "S.x",
		"lost+found", "gocryptfs.conf", ".fuse_hidden0000000100000001", "a\nb", "\xff\xfe",
		"\xc3\xa9", "e\xcc\x81", "A", "a", "con", "x:y", "x\\y", "*", "?", "\"", "'"};
	byte_names();
	name_lengths();
	link_targets();
	fresh("odd names");
	for (size_t i = 0; i < COUNT(odd); i++) {
		ctx("%s", odd[i]);
		T(put(odd[i], odd[i]));
		T(content(odd[i]));
		S(odd[i]);
	}
	TREE();
	for (size_t i = 0; i < COUNT(odd); i++)
		T(unlink(odd[i]));
	for (size_t i = 0; i < COUNT(odd); i++) {
		ctx("%s", odd[i]);
		T(mkdir(odd[i], 0755));
		T(symlink(odd[i], odd[(i + 1) % COUNT(odd)]));
		S(odd[i]);
	}
	TREE();
}
