"""Pure library: search space, controller, training, bundles, the gate and the registry."""
