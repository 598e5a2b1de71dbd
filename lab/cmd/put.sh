#!/bin/bash
# lab put FILE... DIRECTORY: copies files into a directory of the lab, keeping modes.
. "$LAB_DIR/lib/all.sh"

(($# >= 2)) || die "usage: lab put FILE... DIRECTORY"
lab_require_up
lab_open_ssh || die "the lab does not answer"
destination="${*: -1}"
declare -a members=()
for file in "${@:1:$#-1}"; do
    [[ -e "$file" ]] || die "no file $file"
    members+=(-C "$(cd "$(dirname "$file")" && pwd)" "$(basename "$file")")
done
tar --create --owner=0 --group=0 "${members[@]}" |
    lab_ssh sh -c 'mkdir -p "$1" && exec tar --warning=no-timestamp --extract --preserve-permissions --directory "$1"' - "$destination"
