"""Images and data sets of others: read with care, checked, written on exactly the same grid."""
