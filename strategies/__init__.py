"""Query strategies, one file each. `TABLE` maps the name in a config to where the class is."""

TABLE = {
    "random": "strategies.random:Random",
    "least_confidence": "strategies.least_confidence:LeastConfidence",
    "margin": "strategies.margin:Margin",
    "entropy": "strategies.entropy:Entropy",
    "k_center": "strategies.k_center:KCenter",
}
