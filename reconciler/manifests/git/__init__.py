"""Files and data sets as git has them."""
