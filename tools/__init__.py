"""Scripts for the makers of this project; no part of the product."""
