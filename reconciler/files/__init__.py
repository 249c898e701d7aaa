"""What stands on disk: manifests, targets, data sets, schemas and the lockfile."""
