"""What a million jobs cost: nothing that one job does not."""
