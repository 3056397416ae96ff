"""Stage `report`: one folder to open, made of the tables, figures and images of the other stages."""
