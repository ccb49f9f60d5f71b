#!/bin/bash
# Brings what the Makefile's targets need: Debian packages when root, and a virtual environment in .venv.
#   hack/setup.sh packages GROUP...   groups: build, lab, trace, bench, interop, lint
#   hack/setup.sh venv
# Does nothing where nothing is missing. What it cannot bring is named in one line, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
log=build/setup.log
mkdir -p build

fail() {
	echo "setup: $*" >&2
	exit 1
}

# Each package with how to see that its content is there, wherever it came from: a command, a header, a library or a file.
packages_of() {
	case "$1" in
	build) echo clang=clang libbpf-dev=bpf/bpf_helpers.h linux-libc-dev=linux/bpf.h ;;
	lab) echo libbpf1=libbpf.so.1 libnftables1=libnftables.so.1 nftables=nft iproute2=ip ethtool=ethtool ;;
	bench) echo nftables=nft iptables=iptables-restore ;;
	interop) echo iptables=iptables conntrack=conntrack ;;
	lint) echo clang-format=clang-format shellcheck=shellcheck ;;
	trace) echo python3-bpfcc=/usr/lib/python3/dist-packages/bcc/__init__.py ;;
	*) fail "no package group '$1'; there are build, lab, trace, bench, interop and lint" ;;
	esac
}

present() {
	case "$1" in
	/*) [ -e "$1" ] ;;
	*.h) [ -e "/usr/include/$1" ] ;;
	*.so.*) PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | grep -F "$1" >/dev/null ;;
	*) PATH="$PATH:/sbin:/usr/sbin" command -v "$1" >/dev/null ;;
	esac
}

install_packages() {
	command -v apt-get >/dev/null || fail "missing: $* (names as in Debian; this system has no apt-get)"
	[ "$(id -u)" = 0 ] || fail "missing: $*; not root, so please run: sudo apt-get install -y $*"
	echo "setup: installing $*"
	export DEBIAN_FRONTEND=noninteractive
	{
		{ [ -n "$(find build/apt-updated -mmin -60 2>/dev/null)" ] ||
			apt-get -q -o DPkg::Lock::Timeout=300 update; } &&
			touch build/apt-updated &&
			apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
	} >>"$log" 2>&1 </dev/null || fail "could not install $*: see the end of $log (is the network there?)"
}

packages() {
	local group pair missing=()
	for group in "$@"; do
		for pair in $(packages_of "$group"); do
			present "${pair#*=}" || missing+=("${pair%%=*}")
		done
	done
	[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

find_python() {
	local name
	for name in python3 python3.14 python3.13 python3.12 python3.11; do
		if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
			echo "$name"
			return
		fi
	done
}

venv() {
	local python
	python=$(find_python)
	if [ -z "$python" ]; then
		install_packages python3 python3-venv
		python=$(find_python)
		[ -n "$python" ] || fail "missing: Python 3.11 or newer"
	fi
	if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
		# Debian splits venv's other half off into a package of its own.
		"$python" -c 'import venv, ensurepip' 2>/dev/null ||
			install_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
		echo "setup: making .venv with $("$python" --version)"
		"$python" -m venv --clear .venv >>"$log" 2>&1 || fail "could not make .venv: see the end of $log"
	fi
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		-c constraints.txt -e '.[dev]' >>"$log" 2>&1 </dev/null ||
		fail "pip could not install the dependencies: see the end of $log (is the network there?)"
}

case "${1:-}" in
packages) packages "${@:2}" ;;
venv) venv ;;
*) fail "say 'packages GROUP...' or 'venv'" ;;
esac
