"""What people start by hand: drawing layouts, checking them, and the page on which they are drawn."""
