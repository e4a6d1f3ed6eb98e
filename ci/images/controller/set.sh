# controller_set IMAGE TAG MODULE PACKAGE OBJECTS...: fills $out with the image archive of a controller, the objects of its installation,
# which are files of its module, and the set's description. With $official, the name of an image from a registry, it is the objects alone.
# shellcheck shell=bash
controller_set() {
  local image=shiftcheck/$1:$2 name=${4##*/} module=$3 package=$4 objects; shift 4
  [ -n "${official:-}" ] || build_controller "$image" "$name" "$package"
  GOFLAGS="${GOFLAGS:-} -mod=readonly" go mod download "$module"
  module=$(GOFLAGS="${GOFLAGS:-} -mod=readonly" go list -m -f '{{.Dir}}' "$module")
  for objects in "$@"; do
    cat "$module/$objects"
    printf -- '\n---\n'
  done > "$out/objects.yaml"
  [ -z "${official:-}" ] || return 0
  jq -n --arg image "docker.io/$image" --arg tag "${image##*:}" \
    '{source: "built", image: $image, tag: $tag, archives: ["image.tar"], objects: "objects.yaml"}' > "$out/set.json"
}

# build_controller IMAGE NAME PACKAGE: the image with that program.
build_controller() {
  local not_inlined="k8s.io sigs.k8s.io"
  go_build "" "$3"
  mkdir -p "$work/image/bin" "$work/image/tmp"
  mv "$out/$2" "$work/image/bin/"
  chmod 1777 "$work/image/tmp"
  import_image "$work/image" "$1" 'USER 999' "ENTRYPOINT [\"/bin/$2\"]"
  docker save -o "$out/image.tar" "$1"
  docker rmi "$1" >/dev/null
}
