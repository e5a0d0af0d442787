"""The report as one HTML page, and its figures. Open report_page.py first."""
