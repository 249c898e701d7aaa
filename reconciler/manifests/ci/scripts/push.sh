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
push() {
  git push --quiet "$remote" 'refs/reconcile/*:refs/heads/*'
}
