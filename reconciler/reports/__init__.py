"""Reports: documents and how each format shows them."""
