"""Networks: bridges, addresses, published ports, names."""
