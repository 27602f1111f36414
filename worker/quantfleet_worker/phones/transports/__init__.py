"""Ways to a phone: adb, ssh, or none at all. One contract suite for all of them."""
