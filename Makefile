# What a contributor types. Each target is one line of cargo, of the build program or of the VM runner.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run stop image bundle download keys check test test-long test-unit test-fuzz test-reproducible test-vm lint docs update-lock clean distclean programs toolchain

export KEELSON_CACHE ?= $(HOME)/.cache/keelson
# Each clone has its own: cargo tells a workspace member by its path inside the workspace, so in a shared folder files that
# are older than what another clone compiled would count as compiled.
export CARGO_TARGET_DIR ?= $(KEELSON_CACHE)/cargo/$(notdir $(CURDIR))-$(firstword $(shell echo '$(CURDIR)' | cksum))
programs := $(CARGO_TARGET_DIR)/debug

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: image ## build what is missing, boot it in QEMU, wait for a Ready node (FRESH=1, DETACH=1, CONFIG=file, NET=isolated)
	@$(programs)/keelson-vm run $(if $(FRESH),--fresh) $(if $(DETACH),--detach) $(if $(CONFIG),--config $(CONFIG)) $(if $(filter isolated,$(NET)),--isolated)

stop: programs ## end the VM that `make run DETACH=1` left running
	@$(programs)/keelson-vm stop

image: programs ## build the image and its update bundle into out/
	@$(programs)/keelson-build image

bundle: programs ## build an update bundle into out/ (VERSION=1.2.3, DELTA_FROM=file, VARIANT=what is wrong with it)
	@$(programs)/keelson-build bundle $(if $(VERSION),--version $(VERSION)) $(if $(DELTA_FROM),--delta-from $(DELTA_FROM)) $(if $(VARIANT),--variant $(VARIANT))

keys: programs ## show the keys that builds are signed with, or change them (DO=rotate, DO='rotate --withdraw', DO=add-root, DO='drop-root KEY')
	@$(programs)/keelson-build keys $(or $(DO),show)

download: programs ## compress the image and the bundle into the files that people download
	@$(programs)/keelson-build download

check: toolchain lint test-unit ## format, lints and every test without a VM

test: toolchain image lint test-unit test-fuzz test-reproducible test-vm ## everything that fits an hour or so

test-long: export KEELSON_CHAOS_SECONDS := 600
test-long: export KEELSON_SOAK_SECONDS := 3600
test-long: export KEELSON_POWER_CUT_POINTS := 2000
test-long: export KEELSON_POWER_CUT_BOOTS := 10
test-long: export KEELSON_POWER_CUT_TEARS := 32
test-long: TIME := 600
test-long: test ## the same with ten minutes for each fuzz target and for the chaos suite, an hour of use, 2,000 power cuts per loader

test-unit: programs ## tests that need no VM
	@$(programs)/keelson-build test unit

test-fuzz: programs ## fuzzing: 30 s for each target (TIME=seconds, TARGET=name, REPEAT=file that was found)
	@$(programs)/keelson-build test fuzz $(if $(TIME),--seconds $(TIME)) $(if $(TARGET),--target $(TARGET)) $(if $(REPEAT),--repeat $(REPEAT))

test-reproducible: programs ## builds the image twice and compares the bytes
	@$(programs)/keelson-build test reproducible

test-vm: image ## suites that boot the image
	@$(programs)/keelson-build test vm

lint: programs ## rustfmt, clippy (warnings are errors) and cargo-deny
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- --deny warnings
	@cargo fmt --all --check --manifest-path tests/fuzz/Cargo.toml
	@cargo clippy --quiet --workspace --exclude keelson-fuzz-mozim --manifest-path tests/fuzz/Cargo.toml -- --deny warnings
	@$(programs)/keelson-build dependencies

docs: programs ## write the generated reference pages
	@$(programs)/keelson-build docs

update-lock: programs ## take the newest Debian packages and write the lock
	@$(programs)/keelson-build update-lock

clean: programs ## remove what was built, keep downloads and compiler caches
	@$(programs)/keelson-build clean

distclean: programs ## remove everything of ours, the cache included
	@$(programs)/keelson-build distclean

programs: toolchain
	@cargo build --package keelson-build --package keelson-qemu

toolchain:
	@command -v cargo >/dev/null || { echo "Rust is missing: install rustup (https://rustup.rs), then run this again"; exit 1; }
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer (https://go.dev/dl), then run this again"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt install gcc, then run this again"; exit 1; }
