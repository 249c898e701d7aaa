# A lockfile that is moved would have no base to compare it with.
if git cat-file -e "$base:$LOCKFILE" 2> /dev/null && ! git cat-file -e "HEAD:$LOCKFILE" 2> /dev/null; then
  echo "$LOCKFILE is gone; restore it. To move a target, see docs/ci.md of reconcile"
  exit 1
fi
