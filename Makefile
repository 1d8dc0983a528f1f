# husk: build, test and install.   `make help` lists what there is to make.
#
# Objects go to build/<variant>/, one archive a folder (lib.a, oci.a, vmm.a, agent.a, shim.a,
# netns.a); a folder's main.c is in no archive, so that tests can link the rest. The release
# variant's programs are linked into build/ itself, where they find one another, the kernel and
# the initramfs without an install.
#
#   make VARIANT=asan     AddressSanitizer + UBSan        make CC=clang     another compiler

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
VARIANT ?= release
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif

VERSION := 0.1.0
COMMIT := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

# ---- objects are cached outside the checkout, as the kernel is, where that is possible
CACHE := $(or $(HUSK_CACHE),/var/cache/husk)
CCACHE := $(shell mkdir -p '$(CACHE)/ccache' 2>/dev/null && test -w '$(CACHE)/ccache' && command -v ccache)
export CCACHE_DIR := $(CACHE)/ccache
export CCACHE_NOHASHDIR := 1
export CCACHE_MAXSIZE := 1G

# ---- the one list of packages that the build, the demo and every test need (Debian 12)
PACKAGES_BUILD := gcc libc6-dev make pkg-config libseccomp-dev libyajl-dev libcap-dev libmnl-dev \
	linux-source-6.12 flex bison bc libelf-dev xz-utils patch perl cpio git
PACKAGES_RUN := qemu-system-x86 e2fsprogs busybox-static
PACKAGES_TEST := libcmocka-dev bats clang libclang-rt-dev llvm clang-format clang-tidy cppcheck \
	shellcheck ccache jq tmux debootstrap runc crun containerd umoci skopeo python3 procps util-linux \
	iproute2 iptables ca-certificates docker.io containernetworking-plugins \
	podman netavark aardvark-dns xfsprogs squashfs-tools attr erofs-utils \
	catatonit python3-grpcio python3-protobuf python3-websocket protobuf-compiler \
	apparmor systemd dbus python3-jsonschema golang-github-opencontainers-specs-dev
# Besides, tests/nested/kernel unpacks linux-image-cloud-amd64 in the cache; it is not installed.
PACKAGES := $(PACKAGES_BUILD) $(PACKAGES_RUN) $(PACKAGES_TEST)

WARN := -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wformat=2 \
	-Wno-format-nonliteral -Wpointer-arith -Wundef -Wcast-align -Wwrite-strings -Winit-self \
	-Wimplicit-fallthrough -Wmissing-declarations -Wredundant-decls -Wnested-externs \
	-Wold-style-definition
CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -DHUSK_VERSION='"$(VERSION)"'
BASE := -std=gnu17 -g -ffile-prefix-map=$(CURDIR)=. $(WARN) -fno-strict-aliasing -ffunction-sections -fdata-sections -MMD -MP

ifeq ($(VARIANT),release)
CFLAGS := $(BASE) -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
LDFLAGS := -pie -Wl,-z,relro,-z,now -Wl,--gc-sections -Wl,--as-needed
else ifeq ($(VARIANT),asan)
CFLAGS := $(BASE) -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS := -fsanitize=address,undefined
else ifeq ($(VARIANT),fuzz)
CC := clang
CFLAGS := $(BASE) -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
	-fno-sanitize-recover=all -DHUSK_FUZZ
LDFLAGS := -fsanitize=address,undefined
else
$(error VARIANT=$(VARIANT): release, asan or fuzz)
endif
STATIC_LDFLAGS := -static -no-pie -Wl,--gc-sections -Wl,-z,relro,-z,now

B := build/$(VARIANT)
SRC_lib := $(wildcard lib/*.c lib/changeset/*.c)
SRC_oci := $(wildcard oci/*.c)
SRC_netns := $(wildcard netns/*.c)
SRC_vmm := $(filter-out vmm/main.c,$(wildcard vmm/*.c vmm/virtio/*.c vmm/kvm/*.c vmm/arch/x86_64/*.c))
SRC_vmm/tree := $(wildcard vmm/tree/*.c)
SRC_agent := $(filter-out agent/main.c,$(wildcard agent/*.c))
SRC_shim := $(filter-out shim/main.c,$(wildcard shim/*.c))
FOLDERS := lib oci netns vmm vmm/tree agent shim
archive = $(B)/$(1).a
objs = $(patsubst %.c,$(B)/%.o,$(SRC_$(1)))

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(patsubst tests/unit/%.c,build/asan/unit/%,$(UNIT_SRC))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,build/fuzz/fuzz/%,$(FUZZ_SRC))

PROGRAMS := build/husk build/husk-vmm build/husk-agent

.PHONY: all
all: $(PROGRAMS) build/initramfs.cpio ## programs and initramfs (into build/)

# ---- rules; V=1 shows the commands
ifeq ($(V),1)
say = @:
Q :=
else
say = @printf '  %-6s %s\n' $(1) $(2)
Q := @
endif

.SECONDEXPANSION:
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CCACHE) $(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# The version string alone depends on the commit; objects are rebuilt when it changes.
$(B)/shim/main.o: CPPFLAGS += -DHUSK_COMMIT='"$(COMMIT)"'

define archive_rule
$(call archive,$(1)): $(call objs,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(call say,AR,$$@)
	$(Q)ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

LIBS_shim := -lyajl -lcap -lseccomp -lmnl
# husk-vmm is linked statically: a fifth of what it executed before its first KVM_RUN was the dynamic
# linker. Its addresses are random all the same.
ifeq ($(VARIANT),release)
LINK_vmm := -static-pie
LIBS_vmm := -lyajl_s -lpthread
else
LIBS_vmm := -lyajl -lpthread
endif
LIBS_agent := -lseccomp -lcap -lyajl_s

# The seccomp filters of husk-vmm, from the lists in its sources; build/gen/syscalls.txt tells who may
# what. Objects that need the header say so, since it is made before they are first compiled.
SYSCALLS_FROM := $(sort $(shell find vmm lib -name '*.c' -not -path 'vmm/syscalls/*'))
build/gen/syscalls.inc: $(SYSCALLS_FROM) vmm/syscalls/collect Makefile
	@mkdir -p $(@D)
	$(Q)vmm/syscalls/collect $(SYSCALLS_FROM) > $@.new && mv $@.new $@
build/gen/compile-syscalls: vmm/syscalls/compile.c build/gen/syscalls.inc
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu17 $(WARN) -O1 $< -o $@ -lseccomp
build/gen/syscalls.h: build/gen/compile-syscalls
	$(call say,GEN,$@)
	$(Q)build/gen/compile-syscalls $@.new build/gen/syscalls.txt && mv $@.new $@
$(B)/vmm/jail.o: build/gen/syscalls.h

build/husk: $(B)/shim/main.o $(B)/shim.a $(B)/vmm/tree.a $(B)/oci.a $(B)/netns.a $(B)/lib.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_shim) -lpthread

build/husk-vmm: $(B)/vmm/main.o $(B)/vmm.a $(B)/vmm/tree.a $(B)/lib.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(LINK_vmm) -o $@ $^ $(LIBS_vmm)

# PID 1 of the guest: static, stripped (the kernel unpacks it at every boot). Always release.
build/husk-agent: build/release/agent/main.o build/release/agent.a build/release/oci.a \
		build/release/netns.a build/release/agent/mnl/mnl.o build/release/lib.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(STATIC_LDFLAGS) -s -o $@ $^ $(LIBS_agent)
ifneq ($(VARIANT),release)
build/release/%.o build/release/%.a:
	$(MAKE) VARIANT=release $@
endif

build/initramfs.cpio: build/husk-agent contrib/initramfs/make-initramfs
	contrib/initramfs/make-initramfs build/husk-agent $@

.PHONY: kernel
kernel: ## the guest kernel (cached outside the checkout), as build/vmlinux
	@mkdir -p build
	@path=$$(contrib/kernel/build.sh) && ln -sf "$$path" build/vmlinux && echo "build/vmlinux -> $$path"

# ---- tests

build/asan/unit/%: tests/unit/%.c build/asan/all.stamp
	@mkdir -p $(@D)
	$(call say,TEST,$@)
	$(Q)$(CCACHE) $(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@.o
	$(Q)$(CC) $(CFLAGS) $@.o -o $@ $(addprefix build/asan/,$(addsuffix .a,shim agent vmm vmm/tree netns oci lib)) \
		-lcmocka -lyajl -lcap -lseccomp -lmnl -lpthread

build/fuzz/fuzz/%: tests/fuzz/%.c build/fuzz/all.stamp
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)
	$(Q)$(CCACHE) clang $(CPPFLAGS) $(CFLAGS) -c $< -o $@.o
	$(Q)clang $(subst fuzzer-no-link,fuzzer,$(CFLAGS)) $@.o -o $@ \
		$(addprefix build/fuzz/,$(addsuffix .a,shim agent vmm vmm/tree netns oci lib)) \
		-lyajl -lcap -lseccomp -lmnl -lpthread

build/asan/all.stamp build/fuzz/all.stamp: $(foreach f,$(FOLDERS),$(SRC_$(f))) \
		$(wildcard $(addsuffix /*.h,$(FOLDERS) vmm/virtio lib/changeset)) Makefile
	@mkdir -p $(@D)
	+$(Q)$(MAKE) --no-print-directory VARIANT=$(notdir $(@D)) archives
	@touch $@

# Helper programs of tests, static so that they run inside a guest too.
TOOLS := $(patsubst tests/tools/%.c,build/tests/%,$(wildcard tests/tools/*.c))
build/tests/%: tests/tools/%.c $(addprefix build/release/,vmm.a vmm/tree.a lib.a)
	@mkdir -p $(@D)
	$(call say,TOOL,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fno-pie $< -o $@ -static -no-pie -Wl,--gc-sections \
		$(addprefix build/release/,vmm.a vmm/tree.a lib.a) -lpthread

# husk-vmm that tries to break out of its jail when told so (tests/e2e/jail.bats). Never installed.
build/tests/captive/%.o: vmm/%.c build/gen/syscalls.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DHUSK_CAPTIVE -c $< -o $@
build/tests/captive/%.o: tests/jail/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CCACHE) $(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@
build/tests/husk-vmm-captive: $(addprefix build/tests/captive/,jail.o captive.o) \
		$(addprefix build/release/,vmm/main.o vmm.a vmm/tree.a lib.a)
	$(call say,TOOL,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(LINK_vmm) -o $@ $^ $(LIBS_vmm)
TOOLS += build/tests/husk-vmm-captive

# A guest without a machine: what tests/e2e/wiring.bats puts at a TAP's other end.
build/tests/wire-guest: tests/net/guest.c $(addprefix build/release/,netns.a lib.a)
	@mkdir -p $(@D)
	$(call say,TOOL,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< -o $@ $(addprefix build/release/,netns.a lib.a) -lmnl
TOOLS += build/tests/wire-guest

.PHONY: test-tools
test-tools: $(TOOLS) ## helper programs of tests (build/tests/)

# A guest without a kernel that attacks its VMM, and the VMM that it attacks. Its place is away from
# small numbers: it hands those to devices as addresses of pages to drop.
HOSTILE_SRC := $(wildcard tests/hostile/*.c) tests/hostile/start.S
build/tests/hostile-guest: $(HOSTILE_SRC) tests/hostile/guest.h Makefile
	@mkdir -p $(@D)
	$(call say,GUEST,$@)
	$(Q)$(CC) -std=gnu17 $(WARN) -Wno-missing-prototypes -Wno-missing-declarations -I. -O2 -g \
		-ffreestanding -fno-builtin -fno-stack-protector -fno-pic -no-pie -mno-red-zone \
		-mgeneral-regs-only -fno-tree-loop-distribute-patterns -nostdlib -static \
		-Wl,-z,max-page-size=4096,-Ttext-segment=0x2d67000,-e,start,--build-id=none \
		$(HOSTILE_SRC) -o $@

build/asan/husk-vmm: build/asan/all.stamp vmm/main.c
	$(call say,LINK,$@)
	+$(Q)$(MAKE) --no-print-directory VARIANT=asan build/asan/vmm/main.o
	$(Q)$(CC) -fsanitize=address,undefined -o $@ build/asan/vmm/main.o \
		build/asan/vmm.a build/asan/vmm/tree.a build/asan/lib.a $(LIBS_vmm)

.PHONY: hostile
hostile: build/tests/hostile-guest build/asan/husk-vmm ## what tests/e2e/hostile.bats needs

.PHONY: archives unit-bins fuzz-bins
archives: $(foreach f,$(FOLDERS),$(call archive,$(f)))
unit-bins: $(UNIT_BIN)
fuzz-bins: $(FUZZ_BIN)

.PHONY: unit
unit: ## unit tests under AddressSanitizer and UBSan
	$(MAKE) VARIANT=asan unit-bins
	tests/run unit

.PHONY: fuzz
FUZZ_SECONDS ?= 3
fuzz: ## every fuzz target for FUZZ_SECONDS (default 3) each
	$(MAKE) VARIANT=fuzz fuzz-bins
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/run fuzz

.PHONY: e2e
e2e: all kernel test-tools hostile ## end-to-end tests (root); E2E=file.bats for one
	tests/run e2e $(E2E)

.PHONY: check-kvm
check-kvm: all kernel test-tools hostile ## end-to-end tests on engine kvm, on real KVM: in a nested machine where the host has none (root); E2E=file.bats for one
	NESTED_SECONDS=$${NESTED_SECONDS:-10800} tests/run nested $(E2E)

.PHONY: engines
engines: all kernel ## tests with real container engines (root); ENGINE=file.bats for one
	tests/run engines $(ENGINE)

.PHONY: check
check: deps ## everything: packages, build, lint, unit, fuzz, nested (a part), end-to-end, engines; what CI runs
	$(MAKE) -j$$(nproc) all kernel test-tools
	$(MAKE) -j$$(nproc) VARIANT=asan unit-bins hostile
	$(MAKE) -j$$(nproc) VARIANT=fuzz fuzz-bins
	FUZZ_SECONDS=$(FUZZ_SECONDS) NESTED_LIST=tests/nested/check-list tests/run lint unit fuzz engines e2e nested

.PHONY: lint
lint: ## clang-format, clang-tidy, cppcheck, shellcheck
	tests/lint

.PHONY: bench
bench: all kernel ## compare with peers in one run: a table and a plot in build/bench/
	tests/bench/run

.PHONY: demo
demo: deps ## install packages, build all, and run a first container
	$(MAKE) -j$$(nproc) all kernel
	contrib/demo

.PHONY: deps
deps: ## install the Debian packages that build and tests need (root)
	@missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f='$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q '^ii' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "deps: installing" $$missing; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; \
	fi
	@tests/nested/kernel >/dev/null

.PHONY: install
install: all kernel ## into DESTDIR/PREFIX (default /usr/local)
	install -D -m 755 build/husk $(DESTDIR)$(PREFIX)/bin/husk
	install -D -m 755 build/husk-vmm $(DESTDIR)$(PREFIX)/libexec/husk/husk-vmm
	install -D -m 644 build/initramfs.cpio $(DESTDIR)$(PREFIX)/libexec/husk/initramfs.cpio
	install -D -m 644 $$(readlink -f build/vmlinux) $(DESTDIR)$(PREFIX)/libexec/husk/vmlinux
	install -D -m 644 $$(dirname $$(readlink -f build/vmlinux))/.config $(DESTDIR)$(PREFIX)/libexec/husk/config
	install -D -m 644 docs/husk.8 $(DESTDIR)$(PREFIX)/share/man/man8/husk.8
	install -D -m 644 contrib/completion/husk.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/husk
	install -D -m 644 contrib/husk/config.json $(DESTDIR)$(PREFIX)/share/doc/husk/config.json

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/husk $(DESTDIR)$(PREFIX)/share/man/man8/husk.8
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/husk
	rm -rf $(DESTDIR)$(PREFIX)/libexec/husk $(DESTDIR)$(PREFIX)/share/doc/husk

.PHONY: clean
clean: ## remove build/ (the kernel's cache stays)
	rm -rf build

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9_-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

-include $(shell find build -name '*.d' 2>/dev/null)
