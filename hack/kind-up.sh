#!/bin/bash
# Blixt on a kind cluster on this machine, with a Gateway to try: see usage below. May be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<-END
		hack/kind-up.sh [--name NAME] [--crds FILE|FOLDER|URL] [--timeout SECONDS]
		    Make a kind cluster (unless it is there), build Blixt's images and load them, install the Gateway API's CRDs,
		    config/kind and its demo, wait until the demo's Gateway is Programmed, and tell how to try it.
		hack/kind-up.sh --kubeconfig FILE [--crds ...] [--timeout SECONDS]
		    The same on the cluster of that file, whose nodes have the images blixt-frontend:kind and blixt-backend:kind.

		  --name NAME         of the kind cluster; default: blixt
		  --kubeconfig FILE   needs neither Docker nor kind
		  --crds WHERE        default: the release manifest of Gateway API $gateway_api, standard channel, from GitHub
		  --timeout SECONDS   to wait for the Gateway; default: 300

		Take it down again with: kind delete cluster --name NAME
	END
}

gateway_api=v1.6.3
crds=https://github.com/kubernetes-sigs/gateway-api/releases/download/$gateway_api/standard-install.yaml
name=blixt
kubeconfig=
timeout=300

fail() {
	echo "kind-up: $1" >&2
	exit "${2:-1}"
}

step() {
	echo "kind-up: $*"
}

arguments() {
	while [ $# -gt 0 ]; do
		case "$1" in
		-h | --help)
			usage
			exit 0
			;;
		--name | --kubeconfig | --crds | --timeout)
			[ -n "${2:-}" ] || fail "$1 needs a value (--help tells more)" 2
			printf -v "${1#--}" %s "$2"
			shift 2
			;;
		*) fail "there is no argument '$1' (--help tells more)" 2 ;;
		esac
	done
	[[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout $timeout: a number of seconds is needed" 2
	[[ $name =~ ^[a-z0-9][a-z0-9.-]*$ ]] || fail "--name $name: small letters, digits, dots and hyphens are needed" 2
}

# A line for each thing that is missing, and what to do about it.
prerequisites() {
	local missing=0
	need() {
		command -v "$1" >/dev/null && return
		echo "kind-up: missing: $1 ($2)" >&2
		missing=1
	}
	need kubectl "Kubernetes' command line; https://kubernetes.io/docs/tasks/tools"
	if [ -z "$kubeconfig" ]; then
		need kind "clusters in containers; https://kind.sigs.k8s.io"
		need docker "a container engine; https://docs.docker.com/engine/install"
	fi
	[ "$missing" = 0 ] || exit 1
	if [ -n "$kubeconfig" ]; then
		[ -r "$kubeconfig" ] || fail "--kubeconfig $kubeconfig: there is no such file, or it can't be read"
	else
		docker info >/dev/null 2>&1 || fail "docker is installed, but its daemon doesn't answer: start it, or ask for the right to use it"
		# The nodes are containers: it is this kernel that runs the eBPF programs.
		[ "$(uname -s)" != Linux ] || [ -e /sys/kernel/btf/vmlinux ] ||
			fail "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which the eBPF programs need"
	fi
}

cluster() {
	kubeconfig=$(mktemp)
	trap 'rm -f "$kubeconfig"' EXIT
	if kind get clusters 2>/dev/null | grep -Fxq "$name"; then
		step "the cluster $name is there"
	else
		step "making the cluster $name"
		new=1
		kind create cluster --name "$name" --kubeconfig "$kubeconfig" --wait 120s
	fi
	kind export kubeconfig --name "$name" >/dev/null 2>&1 # for the user's own kubectl
	kind get kubeconfig --name "$name" >"$kubeconfig"
}

images() {
	local side
	for side in frontend backend; do
		step "building the image blixt-$side:kind"
		docker build --quiet -f "build/Containerfile.$side" -t "blixt-$side:kind" . >/dev/null
	done
	step "loading the images into the nodes"
	kind load docker-image --name "$name" blixt-frontend:kind blixt-backend:kind
}

on_cluster() {
	kubectl --kubeconfig "$kubeconfig" "$@"
}

deploy() {
	step "installing the Gateway API's CRDs ($crds)"
	on_cluster apply --server-side --force-conflicts -f "$crds" >/dev/null
	on_cluster wait --for=condition=Established --timeout=60s \
		crd/gatewayclasses.gateway.networking.k8s.io crd/gateways.gateway.networking.k8s.io \
		crd/tcproutes.gateway.networking.k8s.io crd/udproutes.gateway.networking.k8s.io >/dev/null
	step "installing Blixt (config/kind) and the demo (config/kind/demo.yaml)"
	on_cluster apply --server-side --force-conflicts -k config/kind
	on_cluster apply --server-side --force-conflicts -f config/kind/demo.yaml
}

# The images have one tag for ever; pods that run an older one of that tag are to be made anew.
restart() {
	step "starting Blixt's pods with the images as they are now"
	on_cluster -n blixt-system rollout restart deployment/blixt-frontend daemonset/blixt-backend >/dev/null
}

await() {
	step "waiting up to $timeout s until the demo's Gateway is Programmed"
	on_cluster -n demo wait --for=condition=Programmed --timeout="${timeout}s" gateway/edge >/dev/null && return
	on_cluster -n demo get gateway/edge -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}' >&2
	on_cluster -n blixt-system get pods >&2
	fail "the demo's Gateway did not become Programmed; above are its conditions and Blixt's pods"
}

explain() {
	local address node prefix
	address=$(on_cluster -n demo get gateway/edge -o jsonpath='{.status.addresses[0].value}')
	node=$(on_cluster get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}' | cut -d' ' -f1)
	prefix=${address%.*}.0/24
	cat <<-END

		Blixt is up. The demo's Gateway listens on $address, TCP and UDP port 8080; each answer is a pod's name.
		Only the nodes know these addresses, so lead them to a node by a route (Linux):
		  sudo ip route replace $prefix via $node
		  for i in 1 2 3 4; do nc $address 8080 </dev/null; done
		  echo | nc -u -w1 $address 8080
		Watch endpoints come and go:  kubectl -n demo scale deployment/hello --replicas=5
		The Service's own address:    kubectl -n demo get service hello
		What nodes hold:              kubectl -n blixt-system exec ds/blixt-backend -- /opt/blixt/bin/blixt-backend services
		What became of the Gateway:   kubectl -n demo describe gateway edge
	END
	[ -n "$given" ] || echo "Take it down again:           kind delete cluster --name $name; sudo ip route del $prefix"
}

arguments "$@"
given=$kubeconfig
new=
prerequisites
if [ -z "$given" ]; then
	cluster
	images
fi
deploy
[ -n "$given$new" ] || restart
await
explain
