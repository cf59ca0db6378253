"""Reading, pricing and comparing finished runs."""
