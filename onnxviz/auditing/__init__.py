"""Is the file that ships healthy, and is it still the model that was trained?"""
