"""Query strategies, one file each. `TABLE` maps the name in a config to where the class is."""

TABLE = {
    "random": "strategies.random:Random",
    "least_confidence": "strategies.least_confidence:LeastConfidence",
    "margin": "strategies.margin:Margin",
    "entropy": "strategies.entropy:Entropy",
    "k_center": "strategies.k_center:KCenter",
    "max_herding": "strategies.max_herding:MaxHerding",
    "influence": "strategies.influence:Influence",
    "learning_loss": "strategies.learning_loss:LearningLoss",
    "localization_stability": "strategies.localization_stability:LocalizationStability",
    "localization_tightness": "strategies.localization_tightness:LocalizationTightness",
    "csod": "strategies.csod:Csod",
    "talisman": "strategies.talisman:Talisman",
    "tfdp": "strategies.tfdp:Tfdp",
    "mask_entropy": "strategies.mask_entropy:MaskEntropy",
    "el2n": "strategies.el2n:El2n",
    "aum": "strategies.aum:Aum",
    "forgetting": "strategies.forgetting:Forgetting",
    "ccs": "strategies.ccs:Ccs",
}
