"""What a round trained on, written as a data set."""
