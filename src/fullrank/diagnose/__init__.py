"""Why a run goes the way it goes: predicted fates against what happened."""
