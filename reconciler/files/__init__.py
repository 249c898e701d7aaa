"""What users write: manifests, targets and data sets, read with the place of everything in them; and the lockfile."""
