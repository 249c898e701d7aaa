"""What all Google APIs share: HTTP, credentials, Cloud Storage."""
