# istio_set VERSION BUILD: fills $out with istioctl, the image archive and the set's description.
# shellcheck shell=bash
istio_set() {
  local version=$1 build=$2 variables=istio.io/istio/pkg/version module
  local not_inlined="k8s.io sigs.k8s.io istio.io github.com/envoyproxy"
  go_build "-X $variables.buildVersion=$build -X $variables.buildTag=$build -X $variables.buildStatus=Clean" \
    ./istioctl istio.io/istio/pilot/cmd/pilot-discovery istio.io/istio/pilot/cmd/pilot-agent
  module=$(GOFLAGS="${GOFLAGS:-} -mod=readonly" go list -m -f '{{.Dir}}' istio.io/istio)

  mkdir -p "$work/pilot/usr/local/bin" "$work/pilot/etc/ssl/certs" "$work/pilot/tmp"
  mv "$out/pilot-discovery" "$work/pilot/usr/local/bin/"
  cp "$(part_dir proxy)/root/etc/passwd" "$(part_dir proxy)/root/etc/group" "$work/pilot/etc/"
  cp "$(part_dir proxy)/root/etc/ssl/certs/ca-certificates.crt" "$work/pilot/etc/ssl/certs/"
  chmod 1777 "$work/pilot/tmp"
  import_image "$work/pilot" "shiftcheck/pilot:$build" 'USER 1337:1337' 'ENTRYPOINT ["/usr/local/bin/pilot-discovery"]'

  as_root cp -a "$(part_dir proxy)/root" "$work/proxyv2"
  mv "$out/pilot-agent" "$work/proxyv2/usr/local/bin/"
  install -D -m 644 "$module/tools/packaging/common/envoy_bootstrap.json" \
    "$work/proxyv2/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"
  import_image "$work/proxyv2" "shiftcheck/proxyv2:$build" 'ENTRYPOINT ["/usr/local/bin/pilot-agent"]'

  # an archive an image: the node imports several side by side
  docker save -o "$out/pilot.tar" "shiftcheck/pilot:$build"
  docker save -o "$out/proxyv2.tar" "shiftcheck/proxyv2:$build"
  docker rmi "shiftcheck/pilot:$build" "shiftcheck/proxyv2:$build" >/dev/null
  # Upstream Envoy lacks the filters that Istio's own build adds; these settings keep istiod from sending them.
  jq -n --arg version "$version" --arg tag "$build" '{source: "built", version: $version, hub: "docker.io/shiftcheck", tag: $tag,
    istioctl: "istioctl", archives: ["pilot.tar", "proxyv2.tar"], set: [
      "values.pilot.env.PILOT_ENABLE_ALPN_FILTER=false",
      "values.pilot.env.PILOT_ENABLE_METADATA_EXCHANGE=false",
      "values.telemetry.enabled=false"]}' > "$out/set.json"
}
