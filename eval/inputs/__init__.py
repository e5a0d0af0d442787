"""What is judged: ground truth, pictures and detections, read and checked. Open ground_truth.py first."""
