"""The papers' tables from evaluated arms: reading, measuring, filling, drawing."""
