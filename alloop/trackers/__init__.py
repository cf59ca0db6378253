"""Who is shown each booked round: a CSV file, TensorBoard, MLflow, Weights & Biases, or a class of your own."""
