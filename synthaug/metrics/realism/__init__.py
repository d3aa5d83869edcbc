"""Are synthetic volumes told from real ones?"""
