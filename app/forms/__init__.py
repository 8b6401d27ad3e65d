"""The site's form: a plan's document as controls and as an address, each made from the other."""
