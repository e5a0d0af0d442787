"""COCO's benchmark of instance control, built from its stock files. Open coco_benchmark.py first."""
