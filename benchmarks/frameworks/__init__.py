"""Teams of each framework, as processes, and what is looked at beside them."""
