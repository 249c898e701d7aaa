# The deploy key is in the memory of an agent only, and only in this step. GitHub's API confirms the host's keys.
eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_KEY" | ssh-add -q -
unset DEPLOY_KEY
known_hosts=$(mktemp)
gh api meta --jq '.ssh_keys[] | "github.com " + .' > "$known_hosts"
export GIT_SSH_COMMAND="ssh -o UserKnownHostsFile=$known_hosts -o StrictHostKeyChecking=yes"
remote=git@github.com:$GITHUB_REPOSITORY.git
# Pushes the commits refs/reconcile/BRANCH. A pattern, because a tag could make the name of one branch ambiguous.
# A server that refuses one branch may refuse the whole push; then each branch is pushed by itself.
push() {
  local ref failed=0
  git push --quiet "$remote" 'refs/reconcile/*:refs/heads/*' && return
  for ref in $(git for-each-ref --format='%(refname)' refs/reconcile/); do
    git push --quiet "$remote" "$ref:refs/heads/${ref#refs/reconcile/}" || failed=1
  done
  return "$failed"
}
