"""What train, evaluate and predict share: architectures, the prepared arrays, the runtime, the trained model."""
