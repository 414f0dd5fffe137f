# SPDX-License-Identifier: Apache-2.0
#
# One makefile for everything; "make help" lists the targets.

VERSION := 0.1.0

ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS ?= -O2 -g
CPPFLAGS ?=
LDFLAGS ?=
PYTHON ?= python3
PKG_CONFIG ?= pkg-config
INSTALL ?= install
JOBS ?= $(shell nproc)

DESTDIR ?=
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
# mount(8) looks for its helpers only here.
SBINDIR ?= /sbin

DEPS := build/deps
FUSE_PREFIX := $(DEPS)/libfuse
FIPS_DIR := $(DEPS)/fips-3.5
FIPS_DIR_30 := $(DEPS)/fips-3.0
FIPS_DIR_INSTALL := $(LIBDIR)/blobcryptfs/fips

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# ---- sources ---------------------------------------------------------------

SRC := $(sort $(wildcard crypto/*.c keyprov/*.c fs/*.c))
MAIN_SRC := fs/main.c
LIB_SRC := $(filter-out $(MAIN_SRC),$(SRC))
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
# Other files there are linked with every unit test.
UNIT_COMMON_SRC := $(filter-out $(UNIT_SRC),$(sort $(wildcard tests/unit/*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
# What they are about.
FUZZ_LIB_SRC := $(filter crypto/%.c keyprov/%.c,$(SRC)) fs/options.c fs/keyops_args.c

# ---- flags -----------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wvla -Wundef \
  -Wswitch-enum -Wimplicit-fallthrough
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

BASE_CPPFLAGS := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=318 \
  -DBLOBCRYPTFS_VERSION='"$(VERSION)"' \
  -DBLOBCRYPTFS_FIPS_DIR_BUILD='"$(abspath $(FIPS_DIR))"' \
  -DBLOBCRYPTFS_FIPS_DIR_INSTALL='"$(abspath $(FIPS_DIR_INSTALL))"'
BASE_CFLAGS := -std=gnu17 -pthread -fPIE -fstack-protector-strong
# free() is ours: see crypto/wipe_free.c; the others of libfuse's calls: see fs/transport.c
WRAPPED := free fuse_session_receive_buf_internal fuse_session_process_uring_cqe io_uring_submit_and_wait
BASE_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(WRAPPED:%=-Wl,--wrap=%)

HARDENING := -fstack-clash-protection -D_FORTIFY_SOURCE=2 -ftrivial-auto-var-init=zero
HARDENING_KEYS := -fzero-call-used-regs=used-gpr

CFLAGS_release := $(CFLAGS) $(HARDENING)
CFLAGS_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
CFLAGS_fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
# Not for running: "make lint" reads the symbols the source names.
CFLAGS_lint := -O0 -g -fno-builtin -U_FORTIFY_SOURCE
LDFLAGS_release :=
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
LDFLAGS_fuzz := -fsanitize=fuzzer,address,undefined
LDFLAGS_lint :=

# More care, and no key left in a register, where keys are handled.
crypto_FLAGS := -Wconversion $(HARDENING_KEYS)
keyprov_FLAGS := $(HARDENING_KEYS)

# ---- libraries -------------------------------------------------------------

PKGS := libssl libcrypto libsodium jansson libcurl mount

# fuse_pc PREFIX: pkg-config for the libfuse built in PREFIX, and for nothing if it is not there: the system's is not
# static, and the wipes of fs/transport.c would not be linked into it
fuse_pc = $(if $(wildcard $(1)/lib/pkgconfig/fuse3.pc),PKG_CONFIG_PATH='$(abspath $(1))/lib/pkgconfig' $(PKG_CONFIG) --static,false)

FUSE_PREFIX_release := $(FUSE_PREFIX)
FUSE_PREFIX_asan := $(FUSE_PREFIX)-asan
FUSE_PREFIX_tsan := $(FUSE_PREFIX)-tsan
FUSE_PREFIX_fuzz := $(FUSE_PREFIX)
FUSE_PREFIX_lint := $(FUSE_PREFIX)

have_libs = $(shell $(call fuse_pc,$(1)) --exists 'fuse3 >= 3.18.3' $(PKGS) 2>/dev/null && echo yes)
# -isystem: the warnings are for our code only.
lib_cflags = $(patsubst -I%,-isystem %,$(shell $(call fuse_pc,$(1)) --cflags fuse3 $(PKGS) 2>/dev/null))
lib_libs = $(shell $(call fuse_pc,$(1)) --libs fuse3 2>/dev/null; $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null)

# A vault whose answers the test decides takes the real one's place (tests/unit/fakevault.h).
UNIT_LDFLAGS_test_gate := -Wl,--wrap=fuse_reply_err -Wl,--wrap=fuse_req_userdata
UNIT_LDFLAGS_test_customer := -Wl,--wrap=vault_ops
UNIT_LDFLAGS_test_envelope := $(UNIT_LDFLAGS_test_customer)
UNIT_LDFLAGS_test_keeper := $(UNIT_LDFLAGS_test_customer)

# ---- rules for one variant -------------------------------------------------

# A new value of the flags rebuilds the objects; WERROR alone does not.
flags_text = $(CC) $(BASE_CPPFLAGS) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS_$(1)) $(crypto_FLAGS) $(LIB_CFLAGS_$(1)) $(LDFLAGS)

# $(1) variant, $(2) directory for objects and tests, $(3) the program
define variant_rules
LIB_CFLAGS_$(1) = $$(eval LIB_CFLAGS_$(1) := $$(call lib_cflags,$$(FUSE_PREFIX_$(1))))$$(LIB_CFLAGS_$(1))
LIB_LIBS_$(1) = $$(eval LIB_LIBS_$(1) := $$(call lib_libs,$$(FUSE_PREFIX_$(1))))$$(LIB_LIBS_$(1))
LIB_OBJ_$(1) := $$(LIB_SRC:%.c=$(2)/%.o)
MAIN_OBJ_$(1) := $$(MAIN_SRC:%.c=$(2)/%.o)
UNIT_COMMON_OBJ_$(1) := $$(UNIT_COMMON_SRC:%.c=$(2)/%.o)
UNIT_BIN_$(1) := $$(UNIT_SRC:tests/unit/%.c=$(2)/tests/%)

.PHONY: need-libs-$(1)
need-libs-$(1):
	@if [ '$$(call have_libs,$$(FUSE_PREFIX_$(1)))' != yes ]; then \
	  echo 'blobcryptfs needs its own build of libfuse 3.18.3, OpenSSL, libsodium, jansson, libcurl and libmount, and not all are here. Run: make $(if $(filter asan tsan,$(1)),setup-tests,setup)' >&2; \
	  exit 1; \
	fi

$(2)/flags: need-libs-$(1)
	@mkdir -p $$(@D)
	@printf '%s\n' $$(call quote,$$(call flags_text,$(1))) >$$@.new
	@if cmp -s $$@.new $$@; then rm $$@.new; else mv $$@.new $$@; fi

$(2)/%.o: %.c $(2)/flags Makefile
	@mkdir -p $$(@D)
	@echo '  CC $$@'
	@$$(CC) $$(BASE_CPPFLAGS) $$(CPPFLAGS) $$(LIB_CFLAGS_$(1)) $$(BASE_CFLAGS) $$(WARNINGS) \
	  $$(CFLAGS_$(1)) $$($$(firstword $$(subst /, ,$$<))_FLAGS) -MMD -MP -c -o $$@ $$<

$(3): $$(LIB_OBJ_$(1)) $$(MAIN_OBJ_$(1))
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	@$$(CC) $$(BASE_CFLAGS) $$(CFLAGS_$(1)) $$(BASE_LDFLAGS) $$(LDFLAGS_$(1)) $$(LDFLAGS) -o $$@ $$^ $$(LIB_LIBS_$(1))

$(2)/tests/%: $(2)/tests/unit/%.o $$(UNIT_COMMON_OBJ_$(1)) $$(LIB_OBJ_$(1))
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	@$$(CC) $$(BASE_CFLAGS) $$(CFLAGS_$(1)) $$(BASE_LDFLAGS) $$(LDFLAGS_$(1)) $$(LDFLAGS) \
	  $$(UNIT_LDFLAGS_$$*) -o $$@ $$^ $$(LIB_LIBS_$(1)) -lcmocka

-include $$(SRC:%.c=$(2)/%.d) $$(UNIT_SRC:%.c=$(2)/%.d) $$(UNIT_COMMON_SRC:%.c=$(2)/%.d)
endef

# Single quotes round a text, for the shell.
quote = '$(subst ','\'',$(1))'

$(eval $(call variant_rules,release,build/release,build/blobcryptfs))
$(eval $(call variant_rules,asan,build/asan,build/asan/blobcryptfs))
$(eval $(call variant_rules,tsan,build/tsan,build/tsan/blobcryptfs))
$(eval $(call variant_rules,fuzz,build/fuzz,build/fuzz/blobcryptfs))
$(eval $(call variant_rules,lint,build/lint,build/lint/blobcryptfs))

# libFuzzer is clang's, which does not know all flags of gcc's.
build/fuzz/%: private CC := clang
build/fuzz/%: private crypto_FLAGS :=
build/fuzz/%: private keyprov_FLAGS :=

build/fuzz/bin/%: build/fuzz/tests/fuzz/%.o $(FUZZ_LIB_SRC:%.c=build/fuzz/%.o)
	@mkdir -p $(@D)
	@echo '  LD $@'
	@$(CC) $(BASE_CFLAGS) $(CFLAGS_fuzz) $(BASE_LDFLAGS) $(LDFLAGS_fuzz) $(LDFLAGS) -o $@ $^ $(LIB_LIBS_fuzz)

-include $(FUZZ_SRC:%.c=build/fuzz/%.d)

# ---- targets ---------------------------------------------------------------

.PHONY: all setup setup-tests demo demo-cmk asan tsan unit unit-asan unit-tsan fuzz \
  check check-unit check-mount check-asan check-tsan check-fuzz check-long bench bench-revocation \
  lint lint-objects format format-check install uninstall clean distclean help

all: build/blobcryptfs ## build the program (default)

setup: ## install what the build needs: packages, libfuse 3.18, a FIPS provider
	@.ci/get-packages build
	@fs/get-libfuse $(FUSE_PREFIX)
	@crypto/get-fips-provider $(FIPS_DIR)

setup-tests: ## the same for the tests: more packages, instrumented libfuse, a second FIPS provider, Azure's SDK
	@.ci/get-packages build test
	@fs/get-libfuse $(FUSE_PREFIX)
	@fs/get-libfuse $(FUSE_PREFIX) asan
	@fs/get-libfuse $(FUSE_PREFIX) tsan
	@crypto/get-fips-provider $(FIPS_DIR)
	@crypto/get-fips-provider --from source $(FIPS_DIR_30)
	@tests/emulator/get-sdk build/node

# What follows a set-up runs in a second make: the first one looked for the
# libraries before they were there.
demo: setup ## set up, build, and show it at work
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/demo.sh

demo-cmk: setup ## the same with a customer's key, its vault played by an emulator
	@.ci/get-packages demo
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/demo-cmk.sh

asan: build/asan/blobcryptfs ## build with AddressSanitizer and UndefinedBehaviorSanitizer
tsan: build/tsan/blobcryptfs ## build with ThreadSanitizer
unit: $(UNIT_BIN_release)
unit-asan: $(UNIT_BIN_asan)
unit-tsan: $(UNIT_BIN_tsan)
fuzz: $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/bin/%) ## build the fuzz targets

check: setup-tests ## run every test but the long ones
	@$(MAKE) --no-print-directory -j$(JOBS) all asan tsan unit unit-asan unit-tsan fuzz
	@tests/run

check-unit: ## run the unit tests
	@$(MAKE) --no-print-directory -j$(JOBS) unit
	@tests/run unit

check-mount: ## run the tests on a mounted filesystem
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/run mount

check-asan: ## unit and mount tests under AddressSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) asan unit-asan
	@tests/run asan

check-tsan: ## unit and mount tests under ThreadSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) tsan unit-tsan
	@tests/run tsan

FUZZ_SECONDS ?= 30
check-fuzz: ## fuzz each target for FUZZ_SECONDS (30), or that of FUZZ_ONLY=name
	@$(MAKE) --no-print-directory -j$(JOBS) fuzz
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/run fuzz $(FUZZ_ONLY)

check-long: setup-tests ## the tests that take long
	@$(MAKE) --no-print-directory -j$(JOBS) all asan tsan unit fuzz
	@tests/run long

bench: setup ## measure, against other encrypting filesystems
	@.ci/get-packages bench
	@fs/get-libfuse $(FUSE_PREFIX) examples
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/bench/run

bench-revocation: setup ## measure how fast a revoked key takes effect on a live mount
	@.ci/get-packages test
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/bench/revocation

lint-objects: $(LIB_OBJ_lint) $(MAIN_OBJ_lint)

lint: ## static checks with those tools that are installed
	@$(MAKE) --no-print-directory -j$(JOBS) lint-objects
	@LINT_CFLAGS=$(call quote,$(BASE_CPPFLAGS) $(LIB_CFLAGS_lint) -std=gnu17) CC='$(CC)' .ci/lint $(SRC)

C_FILES = $(wildcard crypto/*.[ch] keyprov/*.[ch] fs/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch])

format: ## format the C files with clang-format
	@clang-format -i $(C_FILES)

format-check: ## say which C files clang-format would change
	@clang-format --dry-run -Werror $(C_FILES)

install: all ## install below DESTDIR and PREFIX (/usr/local)
	@[ -e $(FIPS_DIR)/fips.so ] || { echo 'There is no FIPS provider to install. Run: make setup' >&2; exit 1; }
	$(INSTALL) -D -m 0755 build/blobcryptfs '$(DESTDIR)$(BINDIR)/blobcryptfs'
	@for page in $(wildcard fs/*.1) $(wildcard fs/*.8); do \
	  $(INSTALL) -v -D -m 0644 $$page "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; \
	done
	@$(INSTALL) -d '$(DESTDIR)$(SBINDIR)'
	@# The program itself, called by these names, is the helper of mount(8).
	@ln -sfv '$(BINDIR)/blobcryptfs' '$(DESTDIR)$(SBINDIR)/mount.blobcryptfs'
	@ln -sfv '$(BINDIR)/blobcryptfs' '$(DESTDIR)$(SBINDIR)/mount.fuse.blobcryptfs'
	@if [ -e fs/blobcryptfs.bash-completion ]; then \
	  $(INSTALL) -v -D -m 0644 fs/blobcryptfs.bash-completion '$(DESTDIR)$(COMPLETIONDIR)/blobcryptfs'; \
	fi
	@crypto/get-fips-provider --from $(FIPS_DIR)/fips.so --runtime-dir '$(abspath $(FIPS_DIR_INSTALL))' \
	  '$(DESTDIR)$(FIPS_DIR_INSTALL)'

uninstall: ## remove what install put there
	rm -f '$(DESTDIR)$(BINDIR)/blobcryptfs' '$(DESTDIR)$(COMPLETIONDIR)/blobcryptfs'
	rm -f '$(DESTDIR)$(SBINDIR)/mount.blobcryptfs' '$(DESTDIR)$(SBINDIR)/mount.fuse.blobcryptfs'
	@for page in $(wildcard fs/*.1) $(wildcard fs/*.8); do \
	  rm -fv "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; \
	done
	rm -rf '$(DESTDIR)$(FIPS_DIR_INSTALL)'
	@rmdir '$(DESTDIR)$(LIBDIR)/blobcryptfs' 2>/dev/null || true

clean: ## remove what was built, but not build/deps
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +

distclean: ## remove all of build, with libfuse, FIPS providers and downloads
	@rm -rf build

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
