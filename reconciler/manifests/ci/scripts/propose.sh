# Opens a pull request for each of the changes, unless the change has one, open or closed, or another change of the same
# base model has an open one.
propose_all() {
  local branch title report found failed=0
  : > "$out/new"
  while IFS=$'\t' read -r branch title report <&3; do
    found=$(proposed "$branch") # if it is unknown, nothing is opened
    if [ -n "$found" ]; then
      git update-ref -d "refs/reconcile/$branch"
    else
      printf '%s\t%s\t%s\n' "$branch" "$title" "$report" >> "$out/new"
    fi
  done 3< "$out/changes"
  [ -s "$out/new" ] || return 0
  push || failed=1
  while IFS=$'\t' read -r branch title report <&3; do
    propose "$branch" "$title" "$report" || failed=1
  done 3< "$out/new"
  return "$failed"
}
