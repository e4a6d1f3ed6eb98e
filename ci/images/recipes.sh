# The recipes: what a set is made of, which parts are in the cache, what is missing. Read by `build` and by `../check`.
# shellcheck shell=bash
#
# A recipe is a file that sets `title`, `takes` (alone on 2 cores, such as "4 min") and `parts` (the recipes it needs), and defines
# `make`, which fills the folder $out. A part is kept under the hash of its recipe, of those that it is made of, and of make.sh.

images_dir=${SHIFTCHECK_RECIPES:-$ci_dir/images} # another folder of recipes is for tests
parts_dir=$cache_dir/parts
sets_dir=$cache_dir/images
all_sets=(node istio-1.31 istio-1.22 gateway-api)

declare -A hashes=()

recipe_parts() { ( parts=; . "$images_dir/$1/recipe"; echo "$parts" ); }

# hash_recipes RECIPE...: computes the hashes of these recipes and of their parts, each once.
hash_recipes() {
  local recipe part parts
  for recipe in "$@"; do
    [ -z "${hashes[$recipe]:-}" ] || continue
    parts=$(recipe_parts "$recipe")
    # shellcheck disable=SC2086
    hash_recipes $parts
    hashes[$recipe]=$({
      ( cd "$images_dir/$recipe" && find . -type f | LC_ALL=C sort | xargs sha256sum )
      sha256sum <"$ci_dir/images/make.sh"
      for part in $parts; do echo "${hashes[$part]}"; done
    } | sha256sum | cut -c1-16)
  done
}

recipe_hash() { hash_recipes "$1"; echo "${hashes[$1]}"; }

part_dir() { echo "$parts_dir/$1-$(recipe_hash "$1")"; }

# missing_parts RECIPE: the recipes that have to be made for it, in order, without those that are in the cache.
missing_parts() {
  local part
  [ ! -d "$(part_dir "$1")" ] || return 0
  for part in $(recipe_parts "$1"); do missing_parts "$part"; done
  echo "$1"
}

# is_pulled SET: its images came from a registry, and stay in use.
is_pulled() { case $(readlink "$sets_dir/$1" 2>/dev/null || true) in *-registry-*) true ;; *) false ;; esac; }
