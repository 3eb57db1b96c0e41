"""Tian, Chen and Ganguli 2021: why BYOL and SimSiam do not collapse, and DirectPred."""

from fullrank.experiments.claims import (
    tian2021_directpred,
    tian2021_modes,
    tian2021_networks,
    tian2021_networks_flow,
    tian2021_symmetric,
    tian2021_tracks,
)
from fullrank.experiments.claims.claim import Paper

PAPER = Paper(
    name="tian2021",
    title="Understanding Self-Supervised Learning Dynamics without Contrastive Pairs",
    citation="Tian, Chen and Ganguli 2021",
    about="The theory is of linear networks with a linear predictor, a squared error, and "
    "isotropic data; "
    "its claims are followed in float64, then in linear networks under SGD, then in convolutional "
    "networks "
    "with a cosine loss.",
    claims=(
        tian2021_networks_flow.BALANCE,
        tian2021_networks_flow.COLLAPSE,
        tian2021_networks.COLLAPSE,
        tian2021_modes.FIXED_POINTS,
        tian2021_modes.CRITICAL_DECAY,
        tian2021_modes.BASIN,
        tian2021_networks_flow.ALIGNMENT,
        tian2021_networks.ALIGNMENT,
        tian2021_tracks.TRACKS,
        tian2021_symmetric.SYMMETRIC,
        tian2021_symmetric.RESCUE,
        tian2021_symmetric.PLACEMENT,
        tian2021_directpred.LINEAR_SHORT,
        tian2021_directpred.LINEAR_LONG,
        tian2021_directpred.TWO_LAYER_SHORT,
        tian2021_directpred.TWO_LAYER_LONG,
        tian2021_directpred.FREQUENCY,
    ),
)
