"""From detections and a judge to the metrics of one row. Open score_row.py first."""
