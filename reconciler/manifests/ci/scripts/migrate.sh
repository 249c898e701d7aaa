# Commits each change of a base model that is due to refs/reconcile/BRANCH, in a worktree of its own. The same change has
# the same branch in each run. The file $out/changes gets a line for each: the branch, the title and the report. The
# variable status is 1 if a manifest cannot be changed; the other changes are made.
migrate_all() {
  local id title names name only branch directory head new old number=0
  status=0
  reconcile migrate "$SPECS" --dry-run --format json > "$out/migration.json" || status=$?
  [ "$status" -eq 0 ] || reconcile render "$out/migration.json"
  python -I -c '
import json, sys
for change in json.load(sys.stdin).get("changes", ()):
    title = "Tune from {successor} instead of {baseModel}".format(**change)
    print(change["id"], title, *change["names"], sep="\t")
' < "$out/migration.json" > "$out/due"
  head=$(git rev-parse --verify HEAD)
  while IFS=$'\t' read -r id title names <&3; do
    branch=reconcile-migrate/$RECONCILE_TARGET/$id directory=$(mktemp -d) number=$((number + 1)) only=()
    for name in $names; do
      only+=(--only "$name")
    done
    git worktree add --quiet --detach "$directory/repository" "$head"
    (
      cd "$directory/repository" || exit
      reconcile migrate "$SPECS" "${only[@]}" --report "$out/$number.md"
      git commit --quiet --all --message "$title"
    )
    new=$(git -C "$directory/repository" rev-parse --verify HEAD)
    if old=$(git show-ref --verify --hash "refs/remotes/origin/$branch" 2> /dev/null); then
      if [ "$(patch_id "$head" "$old")" != "$(patch_id "$head" "$new")" ]; then
        echo "$branch has other commits; it is not changed"
        continue
      fi
      new=$old
    fi
    git update-ref "refs/reconcile/$branch" "$new"
    printf '%s\t%s\t%s\n' "$branch" "$title" "$out/$number.md" >> "$out/changes"
  done 3< "$out/due"
}
patch_id() { # the changes of a commit since it left another one
  git diff --no-ext-diff --no-textconv "$1...$2" | git patch-id --stable | cut -d ' ' -f 1
}
