# controller_set IMAGE TAG MODULE PACKAGE OBJECTS...: fills $out with the image archive of a controller, the objects of its installation,
# which are files of its module, and the set's description.
# shellcheck shell=bash
controller_set() {
  local image=shiftcheck/$1:$2 name=${4##*/} module=$3 package=$4 objects; shift 4
  local not_inlined="k8s.io sigs.k8s.io"
  go_build "" "$package"
  module=$(GOFLAGS="${GOFLAGS:-} -mod=readonly" go list -m -f '{{.Dir}}' "$module")
  mkdir -p "$work/root/bin" "$work/root/tmp"
  mv "$out/$name" "$work/root/bin/"
  chmod 1777 "$work/root/tmp"
  import_image "$work/root" "$image" 'USER 999' "ENTRYPOINT [\"/bin/$name\"]"
  docker save -o "$out/image.tar" "$image"
  docker rmi "$image" >/dev/null
  for objects in "$@"; do
    cat "$module/$objects"
    printf -- '\n---\n'
  done > "$out/objects.yaml"
  jq -n --arg image "docker.io/$image" --arg tag "${image##*:}" \
    '{source: "built", image: $image, tag: $tag, archives: ["image.tar"], objects: "objects.yaml"}' > "$out/set.json"
}
