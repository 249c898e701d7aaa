# Settles one pull request, in a process and a worktree of its own. The result is the commit refs/reconcile/BRANCH.
settle() { # NUMBER BRANCH BASE DIRECTORY
  ulimit -Sv 8388608 # KiB of memory
  head=$(git show-ref --verify --hash "refs/remotes/origin/$2") || return 0 # the branch was deleted
  git worktree add --quiet --detach "$4/repository" "$head"
  cd "$4/repository" || exit
  export RECONCILE_UNMERGED=1 # the job runs for the default branch, but nothing here is merged
  # The platform cannot merge lockfiles: if they are the only conflict, merge here.
  if ! git -c merge.reconcile.driver=false merge-tree --write-tree "$head" "$3" > /dev/null; then
    git merge --quiet --message "Merge the base branch" "$3" || git merge --abort
  fi
  status=0
  if ! reconcile validate "$SPECS" --locked --quiet > /dev/null 2>&1; then
    reconcile wait "$SPECS" --timeout 0 || status=$?
    [ ! -e "$LOCKFILE" ] || git add --force -- "$LOCKFILE" # --force: a .gitignore could hide it
    git diff --cached --quiet || git commit --quiet --message "Record the results of the trainings"
  fi
  [ "$(git rev-parse --verify HEAD)" = "$head" ] || git update-ref "refs/reconcile/$2" HEAD
  # 1: the plan of the pull request shows what failed; 4: still in training
  case "$status" in 0 | 1 | 4) ;; *) return "$status" ;; esac
}
export -f settle

# Settles the pull requests in a file, for at most 5 minutes each. The order is random, so that slow ones do not delay
# the same others in every run; what is left after 40 minutes waits for the next run.
settle_all() { # FILE BASE
  settled=0 failures=
  while IFS=$'\t' read -r number branch <&3; do
    [ "$SECONDS" -lt 2400 ] || break
    echo "Pull request $number"
    status=0 directory=$(mktemp -d)
    TMPDIR=$directory timeout --kill-after=10s 5m bash -euo pipefail -c 'settle "$@"' \
      settle "$number" "$branch" "$2" "$directory" || status=$?
    rm -rf -- "$directory"
    if [ "$status" -eq 0 ]; then
      settled=$((settled + 1))
    else
      failures="$failures $number (exit status $status)" # 124: it took longer than 5 minutes
    fi
  done 3< <(shuf "$1")
}
