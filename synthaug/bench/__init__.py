"""The benchmark: does synthetic data help this classifier, how much, and is it safe to use?"""
