# make_oracle VERSION: fills $out with the oracle of a version of Istio, and the definitions that it reads.
# shellcheck shell=bash
make_oracle() {
  local version=$1 module source
  local not_inlined="k8s.io sigs.k8s.io istio.io github.com/envoyproxy" # as for Istio itself, so that nothing is compiled twice
  source=$(part_dir oracle)
  mkdir "$work/source"
  cp go.mod go.sum "$source"/*.go "$work/source/"
  cd "$work/source"
  go_build "-X main.version=$version.0" .
  module=$(GOFLAGS="${GOFLAGS:-} -mod=readonly" go list -m -f '{{.Dir}}' istio.io/istio)
  install -m 644 "$(find "$module/manifests/charts/base" -name crd-all.gen.yaml)" "$out/istio.yaml"
  install -m 644 "$source/gateway-api.yaml" "$out/"
}
