# Files of a pull request cannot change what is installed: versions and hashes come from the commit $trusted, wheels
# run no code while they are installed, and Python imports nothing from this directory.
requirements=$(mktemp)
if ! git cat-file blob "$trusted:@REQUIREMENTS@" > "$requirements"; then
  echo "@REQUIREMENTS@ is not on the default branch; merge it together with this workflow, then run this again"
  exit 1
fi
python -I -m pip install --quiet --require-hashes --only-binary :all: --requirement "$requirements"
