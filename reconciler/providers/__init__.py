"""The tuning services behind the provider port."""
