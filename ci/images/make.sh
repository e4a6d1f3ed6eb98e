# What recipes call to make their parts. A part is built again when one of these functions changes, and when its recipe changes.
# shellcheck shell=bash

# go_vendor: copies the modules of the recipe to where files can be left out, and goes there.
go_vendor() {
  mkdir "$work/source"
  cp -r . "$work/source/"
  cd "$work/source"
  GOFLAGS="${GOFLAGS:-} -mod=mod" go mod vendor
}

# go_build MODULE_VERSION_FLAGS PACKAGE...: static binaries into $out, from the go.mod of the recipe. Nobody debugs them, so no debug
# information is compiled; and in the modules that the recipe names in $not_inlined, which are most of the work and little of what runs,
# nothing is inlined: together that is a quarter of the compilers' time. What two recipes have in the same version and with the same
# flags is compiled once.
go_build() {
  local flags=$1 from=readonly compiler=(-gcflags=all=-dwarf=false) modules; shift
  [ ! -d vendor ] || from=vendor
  for modules in ${not_inlined:-}; do compiler+=(-gcflags="$modules/...=-dwarf=false -l"); done
  CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=$from" go build -trimpath -ldflags "-s -w $flags" "${compiler[@]}" -o "$out/" "$@"
}

# import_image ROOT NAME [CHANGE...]: a one-layer image of that folder, each CHANGE in Dockerfile's words.
import_image() {
  local root=$1 name=$2 change options=(); shift 2
  for change in "$@"; do options+=(--change "$change"); done
  as_root tar --numeric-owner --sort=name --mtime=@0 -C "$root" -c . | docker import "${options[@]}" - "$name" >/dev/null
}

# copy_program ROOT DESTINATION PROGRAM...: programs of a root folder with the libraries that they are linked to.
copy_program() {
  local root=$1 to=$2 program library; shift 2
  for program in "$@"; do
    (cd "$root" && as_root cp -a --parents "$program" "$to/")
    for library in $(as_root chroot "$root" ldd "/$program" | grep -oE '/[^ ]+\.so[^ ]*'); do
      # the folder with its links resolved (/lib is one), the file under the name that the program asks for
      library=$(as_root chroot "$root" realpath "${library%/*}")/${library##*/}
      (cd "$root" && as_root cp -aL --parents ".$library" "$to/")
    done
  done
}
