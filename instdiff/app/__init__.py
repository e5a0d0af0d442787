"""What people start by hand: the commands, their pages, and one function from Python. Open generate.py first."""
