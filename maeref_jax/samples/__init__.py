"""What a network learns from: volumes of a data set, crops of them, augmentation, deterioration."""
